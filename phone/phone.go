// Package phone reads telephone numbers as Ziwo and people write them:
// national ("061234567"), international ("+9716…", "009716…", "9716…"), quoted,
// withheld, or an internal extension ("0026", "agent-0029").
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

// Type says what kind of line a number belongs to. The zero value is Unknown.
type Type string

// The kinds of line. Withheld and Internal are not in any numbering plan: the
// caller hid the number, or it is an extension of the contact centre itself.
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

// Types lists every Type, for validation and documentation.
func Types() []Type {
	return []Type{
		Mobile, FixedLine, FixedLineOrMobile, TollFree, PremiumRate, SharedCost, VoIP,
		Personal, Pager, UAN, Voicemail, Withheld, Internal, Unknown,
	}
}

// Number is one telephone number as it came and as it was read. The zero value
// is "no number was given". Numbers are plain values, safe to copy and compare.
type Number struct {
	Raw     string // as it came, byte for byte
	E164    string // "+97161234567"; empty when it could not be read as a public number
	Country string // ISO 3166 two letters; empty when unknown or shared by the whole world (+800)
	Type    Type   // empty only in the zero Number
}

// maxLength bounds what is handed to the numbering plan: the longest dialable
// form has 15 digits, an international prefix and some punctuation.
const maxLength = 64

// Parse reads raw with the numbers of region ("AE"; "" when there is no
// default) as the national form. It never fails: what is not a public number
// keeps its text and has an empty E164.
func Parse(raw, region string) Number {
	if raw == "" {
		return Number{}
	}
	n := Number{Raw: raw, Type: Unknown}
	text := clean(raw)
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
	parsed, line, ok := read(raw, text, region)
	if !ok {
		return n
	}
	n.E164 = phonenumbers.Format(parsed, phonenumbers.E164)
	n.Country = country(parsed)
	n.Type = kind(line)
	return n
}

// Key is what two spellings of one number have in common: the E.164 form, or
// the trimmed text of what is no public number.
func (n Number) Key() string {
	if n.E164 != "" {
		return n.E164
	}
	return clean(n.Raw)
}

// Given tells whether there was any number at all.
func (n Number) Given() bool { return n.Raw != "" }

// National is the form that people of the number's own country dial, digits
// only ("061234567"); empty when the number could not be read.
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

// LogValue redacts the number: logs show its last four digits at most.
func (n Number) LogValue() slog.Value { return slog.StringValue(Redact(n.Key())) }

// String is the redacted form, so that a number in a message does not leak.
func (n Number) String() string { return Redact(n.Key()) }

// Redact keeps the last four characters of a number of seven characters or
// more and hides all of a shorter one.
func Redact(number string) string {
	const shown, least = 4, 7
	if number == "" {
		return ""
	}
	if utf8.RuneCountInString(number) < least {
		return "…"
	}
	from := len(number)
	for range shown {
		_, size := utf8.DecodeLastRuneInString(number[:from])
		from -= size
	}
	return "…" + number[from:]
}

// KnownRegion tells whether region is the two-letter code of a country with a
// numbering plan, in capitals.
func KnownRegion(region string) bool {
	return len(region) == 2 && phonenumbers.GetSupportedRegions()[region]
}

// read applies the numbering plan. A text can often be read in several ways;
// the first that gives a number in use is taken, else the first of a length that
// the plan allows: a new range that the metadata does not know yet is still a
// number.
func read(raw, text, region string) (n *phonenumbers.PhoneNumber, line phonenumbers.PhoneNumberType, ok bool) {
	line = phonenumbers.UNKNOWN
	for _, r := range readings(raw, text, region) {
		parsed, err := phonenumbers.Parse(r.text, r.region)
		if err != nil {
			continue
		}
		// A number in use is one of a known kind; asking for both would cost twice.
		if known := phonenumbers.GetNumberType(parsed); known != phonenumbers.UNKNOWN {
			return parsed, known, true
		}
		if n == nil && !r.sureOnly && possible(parsed) {
			n = parsed
		}
	}
	return n, line, n != nil
}

// possible is stricter than the library's, which would take every short code and
// every number dialled within a town: it asks for the length of the country's
// fixed or mobile lines, or one in between.
func possible(p *phonenumbers.PhoneNumber) bool {
	national := phonenumbers.GetNationalSignificantNumber(p)
	country := phonenumbers.GetRegionCodeForCountryCode(int(p.GetCountryCode()))
	if phonenumbers.IsPossibleNumberWithReason(p) != phonenumbers.IS_POSSIBLE {
		return false
	}
	if strings.HasPrefix(national, "0") && phonenumbers.GetNddPrefixForRegion(country, true) != "" {
		return false // a zero is no part of the number but in countries such as Italy
	}
	var usual []int
	for _, line := range []phonenumbers.PhoneNumberType{phonenumbers.FIXED_LINE, phonenumbers.MOBILE} {
		if example := phonenumbers.GetExampleNumberForType(country, line); example != nil {
			usual = append(usual, len(phonenumbers.GetNationalSignificantNumber(example)))
		}
	}
	return len(usual) == 0 || slices.Min(usual) <= len(national) && len(national) <= slices.Max(usual)
}

// reading is one way to understand a text.
type reading struct {
	text, region string
	sureOnly     bool // a number of the right length is not enough
}

func readings(raw, text, region string) []reading {
	if strings.HasPrefix(text, "+0") { // no country code begins with 0: somebody put the + before "00" or a trunk prefix
		text = text[1:]
	}
	if text[0] == '+' {
		return []reading{{text: text}}
	}
	d := digits(text)
	var ways []reading
	if rest, ok := strings.CutPrefix(text, "00"); ok {
		ways = append(ways, reading{text: "+" + rest})
	}
	// A URL turns "+" into a space.
	if raw[0] == ' ' && text[0] >= '1' && text[0] <= '9' && len(d) > 6 {
		ways = append(ways, reading{text: "+" + text})
	}
	ways = append(ways, reading{text: text, region: region})
	if d != "" && d[0] != '0' { // a bare country code
		ways = append(ways, reading{text: "+" + d, sureOnly: true})
	}
	return ways
}

func country(p *phonenumbers.PhoneNumber) string {
	region := phonenumbers.GetRegionCodeForNumber(p)
	if region == "" {
		region = phonenumbers.GetRegionCodeForCountryCode(int(p.GetCountryCode()))
	}
	if len(region) != 2 || region == "ZZ" {
		return ""
	}
	return region
}

func kind(line phonenumbers.PhoneNumberType) Type {
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

// clean drops surrounding space, the quotes that Verto leaves around numbers
// and the invisible marks that come with numbers copied from an address book;
// the digits of other scripts become ours.
func clean(raw string) string {
	for i := range len(raw) {
		if raw[i] >= utf8.RuneSelf {
			raw = strings.Map(ascii, raw)
			break
		}
	}
	return strings.Trim(raw, " \t\r\n\"'“”„‟")
}

func ascii(r rune) rune {
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

// isInternal is true of extensions: agents' positions and 4 digits or fewer.
func isInternal(text string) bool {
	lower := strings.ToLower(text)
	if rest, ok := strings.CutPrefix(lower, "agent-"); ok {
		return onlyDigits(rest)
	}
	return onlyDigits(text) && len(text) <= 4
}

// isWithheld knows the words that carriers put where the number would be.
func isWithheld(text string) bool {
	switch strings.ToLower(text) {
	case "", "anonymous", "withheld", "private", "restricted", "unavailable", "unknown", "hidden", "blocked",
		"private number", "unknown number", "no caller id", "null":
		return true
	}
	return false
}

// isWord is true of text with letters, other than those around an extension:
// the library would dial "1 more call" on the letters of the keypad.
func isWord(text string) bool {
	text = strings.TrimPrefix(strings.ToLower(text), "tel:")
	number, extension := text, ""
	if i := strings.IndexFunc(text, func(r rune) bool { return r == ';' || r == '#' || unicode.IsLetter(r) }); i >= 0 {
		number, extension = text[:i], text[i:]
	}
	for _, mark := range []string{";", "#", "extension", "ext", "x"} {
		if strings.HasPrefix(extension, mark) {
			return strings.TrimSpace(number) == ""
		}
	}
	return extension != ""
}

func onlyDigits(s string) bool { return s != "" && digits(s) == s }

func digits(s string) string {
	clean := true
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			clean = false
			break
		}
	}
	if clean {
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

// CountryCode is the calling code of a region ("971" of AE), or "".
func CountryCode(region string) string {
	if code := phonenumbers.GetCountryCodeForRegion(region); code != 0 {
		return strconv.Itoa(code)
	}
	return ""
}

// Prefix is how the numbers begin in E.164 that begin with text in region:
// "+9715", "009715", "9715" and, in AE, "05" are the same. It is empty when text
// holds no digit that tells anything.
func Prefix(text, region string) string {
	text = clean(text)
	d, code, trunk := digits(text), CountryCode(region), phonenumbers.GetNddPrefixForRegion(region, true)
	optional := trunk == "" || trunk == code // nobody need dial it, as in Qatar or the United States
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

// Dialling tells how people of a region dial: the calling code of their country
// ("971") and what they put before a national number ("0", or "" when nothing).
// Both are empty for a region without a numbering plan.
func Dialling(region string) (code, trunk string) {
	if !KnownRegion(region) {
		return "", ""
	}
	return strconv.Itoa(phonenumbers.GetCountryCodeForRegion(region)), phonenumbers.GetNddPrefixForRegion(region, true)
}
