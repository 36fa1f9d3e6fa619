package phone_test

import (
	"bytes"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"calltracker/phone"
)

func TestParse(t *testing.T) {
	tests := map[string]struct {
		raw, region string
		want        phone.Number // without Raw
		key         string       // E164 when empty
	}{
		// United Arab Emirates.
		"fixed line with trunk zero":     {"065234567", "AE", phone.Number{E164: "+97165234567", Country: "AE", Type: phone.FixedLine}, ""},
		"Ziwo's sample, unassigned":      {"061234567", "AE", phone.Number{E164: "+97161234567", Country: "AE", Type: phone.Unknown}, ""},
		"fixed line without trunk zero":  {"65234567", "AE", phone.Number{E164: "+97165234567", Country: "AE", Type: phone.FixedLine}, ""},
		"mobile":                         {"0501234567", "AE", phone.Number{E164: "+971501234567", Country: "AE", Type: phone.Mobile}, ""},
		"mobile without trunk zero":      {"501234567", "AE", phone.Number{E164: "+971501234567", Country: "AE", Type: phone.Mobile}, ""},
		"plus":                           {"+971501234567", "AE", phone.Number{E164: "+971501234567", Country: "AE", Type: phone.Mobile}, ""},
		"with 00":                        {"00971501234567", "AE", phone.Number{E164: "+971501234567", Country: "AE", Type: phone.Mobile}, ""},
		"calling code without prefix":    {"971501234567", "AE", phone.Number{E164: "+971501234567", Country: "AE", Type: phone.Mobile}, ""},
		"with punctuation":               {"+971 (50) 123-45.67", "AE", phone.Number{E164: "+971501234567", Country: "AE", Type: phone.Mobile}, ""},
		"as a URI":                       {"tel:+971-50-123-4567", "AE", phone.Number{E164: "+971501234567", Country: "AE", Type: phone.Mobile}, ""},
		"with an extension":              {"042345678 ext. 12", "AE", phone.Number{E164: "+97142345678", Country: "AE", Type: phone.FixedLine}, ""},
		"toll-free":                      {"8001234", "AE", phone.Number{E164: "+9718001234", Country: "AE", Type: phone.TollFree}, ""},
		"toll-free in full":              {"+971 800 1234", "", phone.Number{E164: "+9718001234", Country: "AE", Type: phone.TollFree}, ""},
		"universal access number":        {"600512345", "AE", phone.Number{E164: "+971600512345", Country: "AE", Type: phone.UAN}, ""},
		"in Arabic digits":               {"٠٥٠١٢٣٤٥٦٧", "AE", phone.Number{E164: "+971501234567", Country: "AE", Type: phone.Mobile}, ""},
		"in Persian digits, with a plus": {"+۹۷۱۵۰۱۲۳۴۵۶۷", "", phone.Number{E164: "+971501234567", Country: "AE", Type: phone.Mobile}, ""},
		"in Arabic digits, with 00":      {"٠٠٩٧١٥٠١٢٣٤٥٦٧", "", phone.Number{E164: "+971501234567", Country: "AE", Type: phone.Mobile}, ""},
		"in wide digits":                 {"＋９７１５０１２３４５６７", "", phone.Number{E164: "+971501234567", Country: "AE", Type: phone.Mobile}, ""},
		"from an address book":           {"\u202a+971\u00a050\u00a0123\u00a04567\u202c", "", phone.Number{E164: "+971501234567", Country: "AE", Type: phone.Mobile}, ""},
		// Other countries, in their own form.
		"France":                             {"01 76 43 14 00", "FR", phone.Number{E164: "+33176431400", Country: "FR", Type: phone.FixedLine}, ""},
		"Britain":                            {"020 7946 0000", "GB", phone.Number{E164: "+442079460000", Country: "GB", Type: phone.FixedLine}, ""},
		"India":                              {"09876543210", "IN", phone.Number{E164: "+919876543210", Country: "IN", Type: phone.Mobile}, ""},
		"Egypt":                              {"01001234567", "EG", phone.Number{E164: "+201001234567", Country: "EG", Type: phone.Mobile}, ""},
		"Saudi Arabia":                       {"0501234567", "SA", phone.Number{E164: "+966501234567", Country: "SA", Type: phone.Mobile}, ""},
		"United States":                      {"(201) 555-0123", "US", phone.Number{E164: "+12015550123", Country: "US", Type: phone.FixedLineOrMobile}, ""},
		"US, trunk one":                      {"1 201 555 0123", "US", phone.Number{E164: "+12015550123", Country: "US", Type: phone.FixedLineOrMobile}, ""},
		"Canada":                             {"604 555 0123", "US", phone.Number{E164: "+16045550123", Country: "CA", Type: phone.FixedLineOrMobile}, ""},
		"Italy keeps its zero":               {"06 1234 5678", "IT", phone.Number{E164: "+390612345678", Country: "IT", Type: phone.FixedLine}, ""},
		"Qatar has no trunk prefix":          {"44123456", "QA", phone.Number{E164: "+97444123456", Country: "QA", Type: phone.FixedLine}, ""},
		"universal toll-free":                {"+800 1234 5678", "AE", phone.Number{E164: "+80012345678", Type: phone.TollFree}, ""},
		"foreign mobile":                     {"+447400123456", "AE", phone.Number{E164: "+447400123456", Country: "GB", Type: phone.Mobile}, ""},
		"foreign with 00":                    {"0033176431400", "AE", phone.Number{E164: "+33176431400", Country: "FR", Type: phone.FixedLine}, ""},
		"foreign without prefix":             {"33176431400", "AE", phone.Number{E164: "+33176431400", Country: "FR", Type: phone.FixedLine}, ""},
		"foreign without prefix, US":         {"971501234567", "US", phone.Number{E164: "+971501234567", Country: "AE", Type: phone.Mobile}, ""},
		"foreign without prefix, no region":  {"33176431400", "", phone.Number{E164: "+33176431400", Country: "FR", Type: phone.FixedLine}, ""},
		"area code looks like +971":          {"971 501 2345", "US", phone.Number{E164: "+19715012345", Country: "US", Type: phone.FixedLineOrMobile}, ""},
		"mobile looks like +91":              {"9198765432", "IN", phone.Number{E164: "+919198765432", Country: "IN", Type: phone.Mobile}, ""},
		"India, calling code without prefix": {"919876543210", "IN", phone.Number{E164: "+919876543210", Country: "IN", Type: phone.Mobile}, ""},
		"Australian prefix 0011":             {"0011 971 50 123 4567", "AU", phone.Number{E164: "+971501234567", Country: "AE", Type: phone.Mobile}, ""},
		"US prefix 011":                      {"011 971 50 123 4567", "US", phone.Number{E164: "+971501234567", Country: "AE", Type: phone.Mobile}, ""},
		"00 in a country with 011":           {"00 971 50 123 4567", "US", phone.Number{E164: "+971501234567", Country: "AE", Type: phone.Mobile}, ""},
		"unassigned range":                   {"+971991234567", "AE", phone.Number{E164: "+971991234567", Country: "AE", Type: phone.Unknown}, ""},
		"unassigned national range":          {"0991234567", "AE", phone.Number{E164: "+971991234567", Country: "AE", Type: phone.Unknown}, ""},
		// Lost and superfluous plus signs.
		"plus decoded as a space":                    {" 971501234567", "AE", phone.Number{E164: "+971501234567", Country: "AE", Type: phone.Mobile}, ""},
		"plus decoded as a space, other region":      {" 33176431400", "US", phone.Number{E164: "+33176431400", Country: "FR", Type: phone.FixedLine}, ""},
		"plus decoded as a space, no region":         {" 442079460000", "", phone.Number{E164: "+442079460000", Country: "GB", Type: phone.FixedLine}, ""},
		"space before a national number":             {" 0501234567", "AE", phone.Number{E164: "+971501234567", Country: "AE", Type: phone.Mobile}, ""},
		"space before a number without trunk prefix": {" 2125550123", "US", phone.Number{E164: "+12125550123", Country: "US", Type: phone.FixedLineOrMobile}, ""},
		"space before a toll-free number":            {" 8001234", "AE", phone.Number{E164: "+9718001234", Country: "AE", Type: phone.TollFree}, ""},
		"plus before 00":                             {"+00971501234567", "AE", phone.Number{E164: "+971501234567", Country: "AE", Type: phone.Mobile}, ""},
		"plus before a national number":              {"+0501234567", "AE", phone.Number{E164: "+971501234567", Country: "AE", Type: phone.Mobile}, ""},
		// Quotes, as Verto leaves them.
		"double quotes":      {`"065234567"`, "AE", phone.Number{E164: "+97165234567", Country: "AE", Type: phone.FixedLine}, ""},
		"typographic quotes": {"“065234567”", "AE", phone.Number{E164: "+97165234567", Country: "AE", Type: phone.FixedLine}, ""},
		"quoted extension":   {`"0026"`, "AE", phone.Number{Type: phone.Internal}, "0026"},
		"empty quotes":       {`""`, "AE", phone.Number{Type: phone.Withheld}, ""},
		// Extensions.
		"extension":                  {"0026", "AE", phone.Number{Type: phone.Internal}, "0026"},
		"extension of one digit":     {"1", "AE", phone.Number{Type: phone.Internal}, "1"},
		"emergency number":           {"999", "AE", phone.Number{Type: phone.Internal}, "999"},
		"agent":                      {"agent-0029", "AE", phone.Number{Type: phone.Internal}, "agent-0029"},
		"agent in capitals":          {"AGENT-0029", "AE", phone.Number{Type: phone.Internal}, "AGENT-0029"},
		"agent with a long number":   {"agent-0501234567", "AE", phone.Number{Type: phone.Internal}, "agent-0501234567"},
		"extension in Arabic digits": {"٠٠٢٦", "AE", phone.Number{Type: phone.Internal}, "0026"},
		// Withheld.
		"anonymous":     {"anonymous", "AE", phone.Number{Type: phone.Withheld}, "anonymous"},
		"in capitals":   {"UNAVAILABLE", "AE", phone.Number{Type: phone.Withheld}, "UNAVAILABLE"},
		"two words":     {" Private Number ", "AE", phone.Number{Type: phone.Withheld}, "Private Number"},
		"unknown":       {"unknown", "", phone.Number{Type: phone.Withheld}, "unknown"},
		"null, as text": {"null", "AE", phone.Number{Type: phone.Withheld}, "null"},
		"blanks":        {"   ", "AE", phone.Number{Type: phone.Withheld}, ""},
		// Not public numbers.
		"empty":                    {"", "AE", phone.Number{}, ""},
		"short code":               {"10086", "AE", phone.Number{Type: phone.Unknown}, "10086"},
		"too long for the country": {"2025550123", "AE", phone.Number{Type: phone.Unknown}, "2025550123"},
		"short code of six digits": {"123456", "AE", phone.Number{Type: phone.Unknown}, "123456"},
		"local number":             {"3001234", "AE", phone.Number{Type: phone.Unknown}, "3001234"},
		"US local number":          {"5550123", "US", phone.Number{Type: phone.Unknown}, "5550123"},
		"national without region":  {"061234567", "", phone.Number{Type: phone.Unknown}, "061234567"},
		"name":                     {"reception", "AE", phone.Number{Type: phone.Unknown}, "reception"},
		"template":                 {`"{QUEUE}"`, "AE", phone.Number{Type: phone.Unknown}, "{QUEUE}"},
		"name with a digit":        {"0 sales office", "DE", phone.Number{Type: phone.Unknown}, "0 sales office"},
		"keypad letters":           {"1-800-FLOWERS", "US", phone.Number{Type: phone.Unknown}, "1-800-FLOWERS"},
		"only an extension":        {"ext. 12", "AE", phone.Number{Type: phone.Unknown}, "ext. 12"},
		"SIP address":              {"sip:sales@example.com", "AE", phone.Number{Type: phone.Unknown}, "sip:sales@example.com"},
		"agent without a number":   {"agent-", "AE", phone.Number{Type: phone.Unknown}, "agent-"},
		"only a plus":              {"+", "AE", phone.Number{Type: phone.Unknown}, "+"},
		"only zeros":               {"0000000000", "AE", phone.Number{Type: phone.Unknown}, "0000000000"},
		"too many digits":          {strings.Repeat("1", 30), "AE", phone.Number{Type: phone.Unknown}, strings.Repeat("1", 30)},
		"very long":                {"+971501234567" + strings.Repeat("0", 1<<20), "AE", phone.Number{Type: phone.Unknown}, "+971501234567" + strings.Repeat("0", 1<<20)},
		"not UTF-8":                {"05\xff01234567", "AE", phone.Number{Type: phone.Unknown}, "05\ufffd01234567"},
		"unknown region":           {"061234567", "XX", phone.Number{Type: phone.Unknown}, "061234567"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := phone.Parse(tt.raw, tt.region)
			if got.Raw != tt.raw {
				t.Errorf("Raw = %q, want %q", got.Raw, tt.raw)
			}
			if got.Given() != (tt.raw != "") {
				t.Errorf("Given() = %v, want %v", got.Given(), tt.raw != "")
			}
			key := tt.want.E164 + tt.key
			if got.Key() != key {
				t.Errorf("Key() = %q, want %q", got.Key(), key)
			}
			got.Raw = ""
			if got != tt.want {
				t.Errorf("got {%s %s %s}, want {%s %s %s}", got.E164, got.Country, got.Type, tt.want.E164, tt.want.Country, tt.want.Type)
			}
		})
	}
}

func TestNational(t *testing.T) {
	for e164, want := range map[string]string{
		"+97165234567": "065234567", "+971501234567": "0501234567", "+9718001234": "8001234", "+33176431400": "0176431400",
		"+442079460000": "02079460000", "+12015550123": "2015550123", "+390612345678": "0612345678", "+80012345678": "12345678",
	} {
		if got := phone.Parse(e164, "").National(); got != want {
			t.Errorf("Parse(%q).National() = %q, want %q", e164, got, want)
		}
	}
	for _, raw := range []string{"", "0026", "anonymous", "reception"} {
		if got := phone.Parse(raw, "AE").National(); got != "" {
			t.Errorf("Parse(%q).National() = %q, want \"\"", raw, got)
		}
	}
}

func TestE164Prefix(t *testing.T) {
	tests := []struct{ text, region, want string }{
		{"+9715", "AE", "+9715"},
		{"009715", "AE", "+9715"},
		{"9715", "AE", "+9715"},
		{"05", "AE", "+9715"},
		{"0 5", "AE", "+9715"},
		{"٠٥", "AE", "+9715"},
		{"33", "AE", "+33"},
		{"+1 (201)", "AE", "+1201"},
		{"05", "", "+05"},
		{"06", "IT", "+3906"},
		{"3", "IT", "+393"},
		{"201", "US", "+1201"},
		{"1201", "US", "+1201"},
		{"+201", "US", "+201"},
		{"8495", "RU", "+7495"},
		{"06 1", "HU", "+361"},
		{"44", "QA", "+97444"},
		{"97444", "QA", "+97444"},
		{"", "AE", ""},
		{"+", "AE", ""},
		{"00", "AE", ""},
		{"agent-", "AE", ""},
	}
	for _, tt := range tests {
		if got := phone.E164Prefix(tt.text, tt.region); got != tt.want {
			t.Errorf("E164Prefix(%q, %q) = %q, want %q", tt.text, tt.region, got, tt.want)
		}
	}
}

func TestRedact(t *testing.T) {
	for number, want := range map[string]string{
		"": "", "1": "…", "999": "…", "0026": "…", "123456": "…", "1234567": "…4567", "+971501234567": "…4567",
		"agent-0029": "…0029", "anonymous": "…mous", "مجهول": "…", "مجهول الهوية": "…هوية", "12345é": "…", "123456é": "…456é",
	} {
		if got := phone.Redact(number); got != want {
			t.Errorf("Redact(%q) = %q, want %q", number, got, want)
		}
	}
}

func TestNumberRedactsItself(t *testing.T) {
	n := phone.Parse("0501234567", "AE")
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("call", slog.Any("caller", n))
	if got := n.String(); got != "…4567" {
		t.Errorf("String() = %q, want the last four digits", got)
	}
	if strings.Contains(log.String(), "50123") || !strings.Contains(log.String(), "4567") {
		t.Errorf("log line %s, want only the last four digits", log.String())
	}
}

func TestTypesListsEveryType(t *testing.T) {
	seen := map[phone.Type]bool{}
	for _, typ := range phone.Types() {
		if seen[typ] || typ == "" {
			t.Errorf("type %q is empty or listed twice", typ)
		}
		seen[typ] = true
	}
	for _, raw := range []string{"0501234567", "065234567", "8001234", "600512345", "anonymous", "0026", "reception", "+491801234567", "+12015550123", "+447640123456", "+447012345678"} {
		if typ := phone.Parse(raw, "AE").Type; !seen[typ] {
			t.Errorf("Parse(%q).Type = %q, which Types does not list", raw, typ)
		}
	}
}

func TestKnownRegion(t *testing.T) {
	for region, want := range map[string]bool{"AE": true, "US": true, "GB": true, "ae": false, "XX": false, "001": false, "": false, "UAE": false} {
		if got := phone.KnownRegion(region); got != want {
			t.Errorf("KnownRegion(%q) = %v, want %v", region, got, want)
		}
	}
}

func TestCallingCode(t *testing.T) {
	for region, want := range map[string]string{"AE": "971", "US": "1", "CA": "1", "IT": "39", "XX": "", "": ""} {
		if got := phone.CallingCode(region); got != want {
			t.Errorf("CallingCode(%q) = %q, want %q", region, got, want)
		}
	}
}

var regions = []string{"", "AE", "SA", "FR", "GB", "US", "IN", "EG", "IT", "DE", "RU", "BR", "AR", "MX", "XX"}

// checkInvariants fails t if the result of parsing raw breaks a promise of the
// package.
func checkInvariants(t interface {
	Helper()
	Fatalf(format string, args ...any)
}, raw, region string,
) {
	t.Helper()
	n := phone.Parse(raw, region)
	if n.Raw != raw {
		t.Fatalf("Parse(%q).Raw = %q", raw, n.Raw)
	}
	if n != phone.Parse(raw, region) {
		t.Fatalf("two calls of Parse(%q) differ", raw)
	}
	if (n.Type == "") != (raw == "") || n.Type != "" && !slices.Contains(phone.Types(), n.Type) {
		t.Fatalf("Parse(%q).Type = %q", raw, n.Type)
	}
	if redacted := n.String(); utf8.RuneCountInString(redacted) > 5 {
		t.Fatalf("Parse(%q).String() = %q, want at most four characters and an ellipsis", raw, redacted)
	}
	if n.E164 == "" {
		if n.National() != "" || n.Country != "" {
			t.Fatalf("Parse(%q) has no E.164 form but national form %q and country %q", raw, n.National(), n.Country)
		}
		return
	}
	if len(n.E164) < 8 || len(n.E164) > 1+17 || n.E164[0] != '+' || strings.Trim(n.E164[1:], "0123456789") != "" {
		t.Fatalf("Parse(%q).E164 = %q", raw, n.E164)
	}
	for _, other := range []string{region, "", "US"} {
		again := phone.Parse(n.E164, other)
		if again.E164 != n.E164 || again.Country != n.Country || again.Type != n.Type {
			t.Fatalf("Parse(%q, %q) is %s %s %s; parsing its E.164 form in %q gives %s %s %s",
				raw, region, n.E164, n.Country, n.Type, other, again.E164, again.Country, again.Type)
		}
	}
	// An unassigned number may change with 00: Brazil puts a carrier code after it.
	if withZeros := phone.Parse("00"+n.E164[1:], region); n.Type != phone.Unknown && withZeros.E164 != n.E164 {
		t.Fatalf("Parse(%q, %q) is %s; with 00 it is %q", raw, region, n.E164, withZeros.E164)
	}
}

func TestParseIsIdempotent(t *testing.T) {
	raw := rapid.OneOf(
		rapid.StringMatching(`[ "+]?(00|0)?[0-9]{3,14}`),
		rapid.StringMatching(`\+?[0-9 ().\-/]{6,20}( ?(x|ext\.?) ?[0-9]{1,4})?`),
		rapid.String(),
	)
	rapid.Check(t, func(t *rapid.T) { checkInvariants(t, raw.Draw(t, "raw"), rapid.SampledFrom(regions).Draw(t, "region")) })
}

func FuzzParse(f *testing.F) {
	for _, raw := range []string{"061234567", "+971501234567", " 971501234567", "00971501234567", `"0026"`, "agent-0029", "anonymous", "٠٥٠١٢٣٤٥٦٧", "042345678 ext. 12", "tel:+971-50-123-4567;phone-context=+971", "+0", "00", "1-800-FLOWERS", "\xff"} {
		f.Add(raw, uint8(1))
	}
	f.Fuzz(func(t *testing.T, raw string, region uint8) {
		checkInvariants(t, raw, regions[int(region)%len(regions)])
	})
}
