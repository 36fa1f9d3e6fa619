package web

import (
	"slices"
	"strings"
)

// TextKeys returns Ziwo's names for the button texts that a site may change
// (https://www.ziwo.io/api-integration-developers/).
func TextKeys() []string {
	return []string{
		"mainButtonTooltip", "offlineButtonTooltip", "formTitle", "formInputLabel", "formButton",
		"successTitle", "successMessage", "failureTitle", "failureMessage",
	}
}

// Texts returns the built-in texts of the callback button, by language and
// key. The caller may modify the result.
func Texts() map[string]map[string]string {
	return map[string]map[string]string{
		"en": {
			"mainButtonTooltip":    "We’ll call you back",
			"offlineButtonTooltip": "We’re closed right now",
			"formTitle":            "Leave your number and we’ll call you right away",
			"formInputLabel":       "Your phone number",
			"formButton":           "Call me",
			"successTitle":         "We’re calling you",
			"successMessage":       "Your phone will ring in a moment.",
			"failureTitle":         "That didn’t work",
			"failureMessage":       "We couldn’t reach you. Check the number and try again.",
		},
		"fr": {
			"mainButtonTooltip":    "Nous vous rappelons",
			"offlineButtonTooltip": "Nous sommes fermés pour le moment",
			"formTitle":            "Laissez votre numéro et nous vous appelons tout de suite",
			"formInputLabel":       "Votre numéro de téléphone",
			"formButton":           "Appelez-moi",
			"successTitle":         "Nous vous appelons",
			"successMessage":       "Votre téléphone va sonner dans un instant.",
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
			"failureMessage":       "تعذر الاتصال بك. تحقق من الرقم ثم حاول مرة أخرى.",
		},
	}
}

// CardTexts returns the built-in texts of the pop-up card, by language and
// key. The caller may modify the result.
func CardTexts() map[string]map[string]string {
	return map[string]map[string]string{
		"en": {
			"inbound":     "Incoming call",
			"outbound":    "Outgoing call",
			"open":        "Open",
			"close":       "Close",
			"choose":      "Several customers have this number",
			"none":        "No customer has this number",
			"unavailable": "Customer lookup failed",
			"search":      "Search the CRM",
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
			"search":      "Rechercher dans le CRM",
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

// Direction returns the direction in which a language is written: "ltr" or "rtl".
func Direction(language string) string {
	base, _, _ := strings.Cut(strings.ToLower(language), "-")
	if slices.Contains([]string{"ar", "dv", "fa", "he", "ku", "ps", "ug", "ur", "yi"}, base) {
		return "rtl"
	}
	return "ltr"
}
