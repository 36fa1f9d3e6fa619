package web

import (
	"slices"
	"strings"
)

// TextKeys are the texts of Ziwo's button that a site may change, by Ziwo's
// names (https://www.ziwo.io/api-integration-developers/).
func TextKeys() []string {
	return []string{
		"mainButtonTooltip", "offlineButtonTooltip", "formTitle", "formInputLabel", "formButton",
		"successTitle", "successMessage", "failureTitle", "failureMessage",
	}
}

// Texts are those of the button in the languages that come with the server, by
// language. The caller may change what it gets.
func Texts() map[string]map[string]string {
	return map[string]map[string]string{
		"en": {
			"mainButtonTooltip":    "We call you back",
			"offlineButtonTooltip": "We are closed at the moment",
			"formTitle":            "Leave your number and we call you right away",
			"formInputLabel":       "Your phone number",
			"formButton":           "Call me",
			"successTitle":         "We are calling you",
			"successMessage":       "Your phone rings in a moment.",
			"failureTitle":         "That did not work",
			"failureMessage":       "We could not reach you. Please check the number and try again.",
		},
		"fr": {
			"mainButtonTooltip":    "Nous vous rappelons",
			"offlineButtonTooltip": "Nous sommes fermés pour le moment",
			"formTitle":            "Laissez votre numéro, nous vous appelons tout de suite",
			"formInputLabel":       "Votre numéro de téléphone",
			"formButton":           "Appelez-moi",
			"successTitle":         "Nous vous appelons",
			"successMessage":       "Votre téléphone sonne dans un instant.",
			"failureTitle":         "Cela n’a pas fonctionné",
			"failureMessage":       "Nous n’avons pas pu vous joindre. Vérifiez le numéro et réessayez.",
		},
		"ar": {
			"mainButtonTooltip":    "سنعاود الاتصال بك",
			"offlineButtonTooltip": "نحن مغلقون في الوقت الحالي",
			"formTitle":            "اترك رقمك وسنتصل بك فورًا",
			"formInputLabel":       "رقم هاتفك",
			"formButton":           "اتصلوا بي",
			"successTitle":         "نتصل بك الآن",
			"successMessage":       "سيرن هاتفك بعد لحظات.",
			"failureTitle":         "لم ينجح ذلك",
			"failureMessage":       "تعذر الوصول إليك. تحقق من الرقم ثم حاول مرة أخرى.",
		},
	}
}

// CardTexts are what the card of the pop-up says in the languages that come with
// the server, by language. The caller may change what it gets.
func CardTexts() map[string]map[string]string {
	return map[string]map[string]string{
		"en": {
			"inbound":     "Incoming call",
			"outbound":    "Outgoing call",
			"open":        "Open",
			"close":       "Close",
			"choose":      "Several customers have this number",
			"none":        "No customer has this number",
			"unavailable": "The customer could not be looked up",
			"search":      "Search in the CRM",
			"looking":     "Looking up",
		},
		"fr": {
			"inbound":     "Appel entrant",
			"outbound":    "Appel sortant",
			"open":        "Ouvrir",
			"close":       "Fermer",
			"choose":      "Plusieurs clients ont ce numéro",
			"none":        "Aucun client n’a ce numéro",
			"unavailable": "La recherche du client a échoué",
			"search":      "Chercher dans le CRM",
			"looking":     "Recherche de",
		},
		"ar": {
			"inbound":     "مكالمة واردة",
			"outbound":    "مكالمة صادرة",
			"open":        "فتح",
			"close":       "إغلاق",
			"choose":      "عدة عملاء لديهم هذا الرقم",
			"none":        "لا يوجد عميل بهذا الرقم",
			"unavailable": "تعذر البحث عن العميل",
			"search":      "البحث في نظام العملاء",
			"looking":     "جارٍ البحث عن",
		},
	}
}

// Direction is that in which a language is written: "ltr" or "rtl".
func Direction(language string) string {
	base, _, _ := strings.Cut(strings.ToLower(language), "-")
	if slices.Contains([]string{"ar", "dv", "fa", "he", "ku", "ps", "ug", "ur", "yi"}, base) {
		return "rtl"
	}
	return "ltr"
}
