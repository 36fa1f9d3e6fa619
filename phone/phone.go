// Package phone parses telephone numbers in the forms that Ziwo and people use:
// national ("061234567"), international ("+9716…", "009716…", "9716…"), quoted,
// withheld, or an internal extension ("0026", "agent-0029"). It also formats,
// redacts and classifies them.
package phone

import (
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/nyaruka/phonenumbers"
)

// Type is the kind of line that a number belongs to. Parse never returns the
// zero value for a number that was given.
type Type string

// The types of numbers. Withheld and Internal are in no numbering plan: Withheld
// means that the caller hid the number, Internal that the number is an extension
// of the contact center.
const (
	Unknown           Type = "unknown"
	Mobile            Type = "mobile"
	FixedLine         Type = "fixed_line"
	FixedLineOrMobile Type = "fixed_line_or_mobile"
	TollFree          Type = "toll_free"
	PremiumRate       Type = "premium_rate"
	SharedCost        Type = "shared_cost"
	VoIP              Type = "voip"
	Personal          Type = "personal"
	Pager             Type = "pager"
	UAN               Type = "uan"
	Voicemail         Type = "voicemail"
	Withheld          Type = "withheld"
	Internal          Type = "internal"
)

// Types returns every Type, for validation and documentation.
func Types() []Type {
	return []Type{
		Mobile, FixedLine, FixedLineOrMobile, TollFree, PremiumRate, SharedCost, VoIP,
		Personal, Pager, UAN, Voicemail, Withheld, Internal, Unknown,
	}
}

// Number is one telephone number: the original text and what Parse found in it.
// The zero value means that no number was given. Numbers are plain values, safe
// to copy and compare.
type Number struct {
	Raw     string // original text, byte for byte
	E164    string // E.164 form, such as "+97161234567"; empty if Raw is not a public number
	Country string // ISO 3166 two-letter code; empty if unknown or not of one country (+800)
	Type    Type   // kind of line; empty only in the zero Number
}

// maxLength is the longest text, in bytes, that is matched against the numbering
// plans. A dialable number has at most 15 digits, an international prefix and
// some punctuation.
const maxLength = 64

// Parse parses raw. It takes a number without a country code to be a national
// number of region, such as "AE"; an empty region means that there is no
// default. Parse never fails: the result for anything but a public number has
// the text in Raw and an empty E164.
func Parse(raw, region string) Number {
	if raw == "" {
		return Number{}
	}
	n := Number{Raw: raw, Type: Unknown}
	text := normalize(raw)
	switch {
	case isWithheld(text):
		n.Type = Withheld
		return n
	case isInternal(text):
		n.Type = Internal
		return n
	case len(text) > maxLength, isWord(text):
		return n
	}
	parsed, line, ok := match(raw, text, region)
	if !ok {
		return n
	}
	n.E164 = phonenumbers.Format(parsed, phonenumbers.E164)
	n.Country = countryOf(parsed)
	n.Type = typeOf(line)
	return n
}

// Key returns a key that all spellings of one number share: the E.164 form, or
// the normalized text if n is not a public number.
func (n Number) Key() string {
	if n.E164 != "" {
		return n.E164
	}
	return normalize(n.Raw)
}

// Given reports whether a number was given at all, even one that is not public.
func (n Number) Given() bool { return n.Raw != "" }

// National returns the digits that people in the number's own country dial, such
// as "061234567". It returns "" if n is not a public number.
func (n Number) National() string {
	if n.E164 == "" {
		return ""
	}
	parsed, err := phonenumbers.Parse(n.E164, "")
	if err != nil {
		return ""
	}
	return digits(phonenumbers.Format(parsed, phonenumbers.NATIONAL))
}

// LogValue returns the redacted number: logs show at most its last four digits.
func (n Number) LogValue() slog.Value { return slog.StringValue(Redact(n.Key())) }

// String returns the redacted number, so that formatting n does not leak it.
func (n Number) String() string { return Redact(n.Key()) }

// Redact replaces all but the last four characters of number with "…". It hides
// every character of a number that is shorter than seven characters.
func Redact(number string) string {
	const shown, shortest = 4, 7 // characters
	if number == "" {
		return ""
	}
	if utf8.RuneCountInString(number) < shortest {
		return "…"
	}
	from := len(number)
	for range shown {
		_, size := utf8.DecodeLastRuneInString(number[:from])
		from -= size
	}
	return "…" + number[from:]
}

// KnownRegion reports whether region is the two-letter code, in capitals, of a
// country with a numbering plan.
func KnownRegion(region string) bool {
	return len(region) == 2 && phonenumbers.GetSupportedRegions()[region]
}

// match matches text against the numbering plans. Most texts have several
// interpretations. The first one that is in an assigned range wins. Otherwise the
// first one of a valid length does, because the metadata may not know a new range
// yet.
func match(raw, text, region string) (n *phonenumbers.PhoneNumber, line phonenumbers.PhoneNumberType, ok bool) {
	line = phonenumbers.UNKNOWN
	for _, r := range interpretations(raw, text, region) {
		parsed, err := phonenumbers.Parse(r.text, r.region)
		if err != nil {
			continue
		}
		// A known type implies an assigned range, so one lookup answers both.
		if known := phonenumbers.GetNumberType(parsed); known != phonenumbers.UNKNOWN {
			return parsed, known, true
		}
		if n == nil && !r.assignedOnly && hasUsualLength(parsed) {
			n = parsed
		}
	}
	return n, line, n != nil
}

// hasUsualLength reports whether p is as long as the fixed or mobile numbers of
// its country, or in between. The library's own check is too permissive: it
// accepts short codes and local numbers without an area code.
func hasUsualLength(p *phonenumbers.PhoneNumber) bool {
	national := phonenumbers.GetNationalSignificantNumber(p)
	country := phonenumbers.GetRegionCodeForCountryCode(int(p.GetCountryCode()))
	if phonenumbers.IsPossibleNumberWithReason(p) != phonenumbers.IS_POSSIBLE {
		return false
	}
	if strings.HasPrefix(national, "0") && phonenumbers.GetNddPrefixForRegion(country, true) != "" {
		return false // the zero is a trunk prefix, except in countries such as Italy
	}
	var usual []int
	for _, line := range []phonenumbers.PhoneNumberType{phonenumbers.FIXED_LINE, phonenumbers.MOBILE} {
		if example := phonenumbers.GetExampleNumberForType(country, line); example != nil {
			usual = append(usual, len(phonenumbers.GetNationalSignificantNumber(example)))
		}
	}
	return len(usual) == 0 || slices.Min(usual) <= len(national) && len(national) <= slices.Max(usual)
}

// interpretation is one way to parse a text.
type interpretation struct {
	text, region string
	assignedOnly bool // whether the number must be in an assigned range
}

// interpretations returns the ways to parse text, the most likely one first.
func interpretations(raw, text, region string) []interpretation {
	if strings.HasPrefix(text, "+0") { // no calling code begins with 0: the "+" precedes "00" or a trunk prefix
		text = text[1:]
	}
	if text[0] == '+' {
		return []interpretation{{text: text}}
	}
	d := digits(text)
	var found []interpretation
	if rest, ok := strings.CutPrefix(text, "00"); ok {
		found = append(found, interpretation{text: "+" + rest})
	}
	// In a URL, an unencoded "+" becomes a space.
	if raw[0] == ' ' && text[0] >= '1' && text[0] <= '9' && len(d) > 6 {
		found = append(found, interpretation{text: "+" + text})
	}
	found = append(found, interpretation{text: text, region: region})
	if d != "" && d[0] != '0' { // a calling code without a prefix
		found = append(found, interpretation{text: "+" + d, assignedOnly: true})
	}
	return found
}

// countryOf returns the two-letter country code of p, or "" if p is not of one
// country.
func countryOf(p *phonenumbers.PhoneNumber) string {
	region := phonenumbers.GetRegionCodeForNumber(p)
	if region == "" {
		region = phonenumbers.GetRegionCodeForCountryCode(int(p.GetCountryCode()))
	}
	if len(region) != 2 || region == "ZZ" {
		return ""
	}
	return region
}

// typeOf returns the Type for a type of the library.
func typeOf(line phonenumbers.PhoneNumberType) Type {
	switch line {
	case phonenumbers.MOBILE:
		return Mobile
	case phonenumbers.FIXED_LINE:
		return FixedLine
	case phonenumbers.FIXED_LINE_OR_MOBILE:
		return FixedLineOrMobile
	case phonenumbers.TOLL_FREE:
		return TollFree
	case phonenumbers.PREMIUM_RATE:
		return PremiumRate
	case phonenumbers.SHARED_COST:
		return SharedCost
	case phonenumbers.VOIP:
		return VoIP
	case phonenumbers.PERSONAL_NUMBER:
		return Personal
	case phonenumbers.PAGER:
		return Pager
	case phonenumbers.UAN:
		return UAN
	case phonenumbers.VOICEMAIL:
		return Voicemail
	default:
		return Unknown
	}
}

// normalize removes surrounding space, the quotes that Verto leaves around
// numbers, and the invisible characters of numbers that were copied from an
// address book. It replaces Arabic, Persian, and full-width digits with ASCII
// digits.
func normalize(raw string) string {
	for i := range len(raw) {
		if raw[i] >= utf8.RuneSelf {
			raw = strings.Map(toASCII, raw)
			break
		}
	}
	return strings.Trim(raw, " \t\r\n\"'“”„‟")
}

// toASCII returns the ASCII equivalent of r, r itself if it has none, or -1 if r is
// invisible.
func toASCII(r rune) rune {
	switch {
	case r >= '٠' && r <= '٩':
		return '0' + r - '٠'
	case r >= '۰' && r <= '۹':
		return '0' + r - '۰'
	case r >= '０' && r <= '９':
		return '0' + r - '０'
	case r == '＋':
		return '+'
	case r == '\u00a0':
		return ' '
	case unicode.Is(unicode.Cf, r):
		return -1
	default:
		return r
	}
}

// isInternal reports whether text is an extension: an agent's position, or at most
// four digits.
func isInternal(text string) bool {
	lower := strings.ToLower(text)
	if rest, ok := strings.CutPrefix(lower, "agent-"); ok {
		return onlyDigits(rest)
	}
	return onlyDigits(text) && len(text) <= 4
}

// isWithheld reports whether text is one of the words that carriers send instead
// of a hidden number.
func isWithheld(text string) bool {
	switch strings.ToLower(text) {
	case "", "anonymous", "withheld", "private", "restricted", "unavailable", "unknown", "hidden", "blocked",
		"private number", "unknown number", "no caller id", "null":
		return true
	}
	return false
}

// isWord reports whether text has letters that do not introduce an extension. The
// library would convert the letters of "1 more call" to keypad digits.
func isWord(text string) bool {
	text = strings.TrimPrefix(strings.ToLower(text), "tel:")
	number, extension := text, ""
	if i := strings.IndexFunc(text, func(r rune) bool { return r == ';' || r == '#' || unicode.IsLetter(r) }); i >= 0 {
		number, extension = text[:i], text[i:]
	}
	for _, prefix := range []string{";", "#", "extension", "ext", "x"} {
		if strings.HasPrefix(extension, prefix) {
			return strings.TrimSpace(number) == ""
		}
	}
	return extension != ""
}

// onlyDigits reports whether s is one or more ASCII digits.
func onlyDigits(s string) bool { return s != "" && digits(s) == s }

// digits returns the ASCII digits of s.
func digits(s string) string {
	all := true
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			all = false
			break
		}
	}
	if all {
		return s
	}
	var b strings.Builder
	for i := range len(s) {
		if s[i] >= '0' && s[i] <= '9' {
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

// CallingCode returns the calling code of region, such as "971" for "AE". It
// returns "" for an unknown region.
func CallingCode(region string) string {
	if code := phonenumbers.GetCountryCodeForRegion(region); code != 0 {
		return strconv.Itoa(code)
	}
	return ""
}

// E164Prefix returns the E.164 prefix of the numbers that begin with text when
// dialed in region: "+9715" for "+9715", "009715", "9715" and, in AE, "05". It
// returns "" if no significant digit is left.
func E164Prefix(text, region string) string {
	text = normalize(text)
	d, code, trunk := digits(text), CallingCode(region), phonenumbers.GetNddPrefixForRegion(region, true)
	optional := trunk == "" || trunk == code // the trunk prefix, as in Qatar or the United States
	switch {
	case strings.HasPrefix(text, "+"), d == "":
	case strings.HasPrefix(d, "00"):
		d = d[2:]
	case code == "":
	case trunk != "" && strings.HasPrefix(d, trunk):
		d = code + d[len(trunk):]
	case optional && !strings.HasPrefix(d, code):
		d = code + d
	}
	if d == "" {
		return ""
	}
	return "+" + d
}

// DialPrefixes returns the calling code of region, such as "971", and the trunk
// prefix of its national numbers, such as "0" or "" if they have none. Both are
// empty for a region without a numbering plan.
func DialPrefixes(region string) (callingCode, trunkPrefix string) {
	if !KnownRegion(region) {
		return "", ""
	}
	return strconv.Itoa(phonenumbers.GetCountryCodeForRegion(region)), phonenumbers.GetNddPrefixForRegion(region, true)
}
