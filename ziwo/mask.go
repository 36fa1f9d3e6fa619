package ziwo

import (
	"bytes"
	"encoding/json"
	"net/url"
	"strings"
)

// mask stands where a secret was.
const mask = "***"

// MaskSecrets returns body as valid JSON for people to look at, with the values
// of names such as ccPassword, access_token and api_key replaced by "***", at
// any depth. Agents inside a CDR carry their telephony password. JSON stays the
// same document, order and numerals included; anything else becomes a JSON
// string of the text, in which such names are looked for as forms, headers and
// broken JSON write them. What is no UTF-8 becomes U+FFFD.
func MaskSecrets(body []byte) []byte {
	body = bytes.ToValidUTF8(bytes.TrimPrefix(body, []byte("\ufeff")), []byte("\ufffd"))
	if json.Valid(body) {
		return maskJSON(body, 0)
	}
	return AppendString(nil, maskText(maskEncoded(string(body), 0)))
}

// secretName tells whether values under name are to be hidden. It rather hides
// one too many.
func secretName(name string) bool {
	const longest = 128
	name = alphanumeric(name[max(0, len(name)-longest):])
	for _, part := range []string{"password", "passwd", "apikey", "accesstoken", "authorization"} {
		if strings.Contains(name, part) {
			return true
		}
	}
	for _, end := range []string{"token", "secret", "secretkey", "pwd"} {
		if strings.HasSuffix(name, end) {
			return true
		}
	}
	return false
}

// maxMaskDepth is how many layers of JSON or form in a string are opened;
// deeper ones are masked as text.
const maxMaskDepth = 3

// maskJSON copies valid JSON. It goes from string to string instead of down the
// tree, so that depth costs nothing.
func maskJSON(doc []byte, depth int) []byte {
	out := make([]byte, 0, len(doc)+len(mask))
	for i := 0; i < len(doc); {
		quote := bytes.IndexByte(doc[i:], '"')
		if quote < 0 {
			return append(out, doc[i:]...)
		}
		out = append(out, doc[i:i+quote]...)
		i += quote
		end := stringEnd(doc, i)
		token := doc[i:end]
		out = appendMasked(out, token, depth)
		i = end
		colon := skipSpace(doc, end)
		if colon == len(doc) || doc[colon] != ':' || !secretName(string(unquote(token))) {
			continue
		}
		start := skipSpace(doc, colon+1)
		out = append(out, doc[end:start]...)
		out = AppendString(out, mask)
		i = valueEnd(doc, start)
	}
	return out
}

// appendMasked appends a JSON string, byte for byte where it hides nothing.
func appendMasked(out, token []byte, depth int) []byte {
	inner := unquote(token)
	masked := maskInside(inner, depth+1)
	if masked == string(inner) {
		return append(out, token...)
	}
	return AppendString(out, masked)
}

// maskInside masks a text that may be JSON or a form itself.
func maskInside(inner []byte, depth int) string {
	if depth > maxMaskDepth {
		return maskText(string(inner))
	}
	if start := skipSpace(inner, 0); start < len(inner) && strings.IndexByte(`{["`, inner[start]) >= 0 && json.Valid(inner) {
		return string(maskJSON(inner, depth))
	}
	return maskText(maskEncoded(string(inner), depth))
}

// maskEncoded masks the forms in text: the whole of it, or else its words, such
// as a URL in a log line.
func maskEncoded(text string, depth int) string {
	if startsWithPair([]byte(strings.TrimLeft(text, "&"+jsonSpace))) {
		return maskForm(text, depth)
	}
	if !strings.Contains(text, "%") {
		return text
	}
	var out strings.Builder
	for len(text) > 0 {
		end := strings.IndexAny(text, jsonSpace+`"'<>`)
		if end < 0 {
			end = len(text)
		}
		out.WriteString(maskForm(text[:end], depth))
		text = text[end:]
		if len(text) > 0 {
			out.WriteByte(text[0])
			text = text[1:]
		}
	}
	return out.String()
}

// maskForm masks the values of a=1&b=2 by their decoded names, and what their
// decoded values hide. Other pairs stay as they came.
func maskForm(form string, depth int) string {
	pairs := strings.Split(form, "&")
	for i, pair := range pairs {
		rawName, rawValue, ok := strings.Cut(pair, "=")
		if !ok {
			continue
		}
		name, _ := decodeEscapes([]byte(rawName))
		value, _ := decodeEscapes([]byte(rawValue))
		if rawValue != "" && secretName(string(name)) {
			pairs[i] = rawName + "=" + mask
		} else if masked := maskInside(value, depth+1); masked != string(value) {
			pairs[i] = rawName + "=" + url.QueryEscape(masked)
		}
	}
	return strings.Join(pairs, "&")
}

// maskText masks what follows secret names in free text: password=…,
// "password": "…", Authorization: …, with straight, escaped or typographic
// quotes, and the parts of a multipart form. Where a value has no clear end it
// hides the rest.
func maskText(s string) string {
	var out strings.Builder
	done := 0 // s[:done] is written
	for i := 0; i < len(s); {
		if !isNameByte(s[i]) {
			i++
			continue
		}
		start := i
		for i < len(s) && isNameByte(s[i]) {
			i++
		}
		if !secretName(s[start:i]) {
			continue
		}
		from, to := findSecret(s, start, i)
		if from == to {
			continue
		}
		out.WriteString(s[done:from])
		out.WriteString(mask)
		done, i = to, to
	}
	if done == 0 {
		return s
	}
	out.WriteString(s[done:])
	return out.String()
}

func isNameByte(c byte) bool {
	c = lower(c)
	return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '_' || c == '-'
}

// secretIn finds the value of the secret name s[start:end]: s[from:to], empty
// when none follows.
func findSecret(s string, start, end int) (from, to int) {
	after := skipBlank(s, end)
	quote := quoteAt(s, after)
	after = skipBlank(s, after+len(quote))
	if strings.HasPrefix(s[after:], "]") { // user[password]=…
		after = skipBlank(s, after+1)
	}
	if after == len(s) || s[after] != ':' && s[after] != '=' {
		return findPartValue(s, start, end)
	}
	from = skipBlank(s, after+1)
	if from < len(s) && s[from] == '>' { // password => …
		from = skipBlank(s, from+1)
	}
	if from == len(s) {
		return from, from
	}
	if open := quoteAt(s, from); open != "" {
		from += len(open)
		return from, from + closingLength(s[from:], open)
	}
	stop := "&\r\n"
	switch {
	case s[from] == '{' || s[from] == '[':
		return from, len(s)
	case quote != "":
		stop = ",}]&\r\n"
	}
	if n := strings.IndexAny(s[from:], stop); n >= 0 {
		return from, from + n
	}
	return from, len(s)
}

// partValue finds the value of a multipart form's part: name="password", a
// blank line, the value, a line that begins with "--".
func findPartValue(s string, start, end int) (from, to int) {
	before := strings.TrimRight(s[max(0, start-8):start], `"'`)
	if !strings.HasSuffix(strings.ToLower(before), "name=") {
		return end, end
	}
	from = end
	for {
		n := strings.IndexByte(s[from:], '\n')
		if n < 0 {
			return end, len(s)
		}
		from += n + 1
		if strings.HasPrefix(s[from:], "\n") || strings.HasPrefix(s[from:], "\r\n") {
			from += strings.IndexByte(s[from:], '\n') + 1
			break
		}
	}
	if n := strings.Index(s[from:], "\n--"); n >= 0 {
		return from, from + n
	}
	return from, len(s)
}

func skipBlank(s string, i int) int {
	for i < len(s) && strings.IndexByte(jsonSpace, s[i]) >= 0 {
		i++
	}
	return i
}

// quoteAt is the quotation mark at s[i:], with the backslashes that JSON in a
// string puts before it; empty when there is none.
func quoteAt(s string, i int) string {
	end := i
	for end < len(s) && s[end] == '\\' {
		end++
	}
	for _, mark := range []string{`"`, "'", "“", "”", "„", "‟"} {
		if strings.HasPrefix(s[end:], mark) {
			return s[i : end+len(mark)]
		}
	}
	return ""
}

// closing is the length of the value that s begins with, up to the mark that
// closes what open opened; all of s when nothing does.
func closingLength(s, open string) int {
	escapes := strings.Count(open, `\`)
	mark := open[escapes:]
	idFields := mark
	if len(mark) > 1 { // a typographic one, closed by any other
		idFields = "“”„‟"
	}
	for i := 0; i < len(s); {
		n := strings.IndexAny(s[i:], idFields)
		if n < 0 {
			return len(s)
		}
		at := i + n
		before := at
		for before > 0 && s[before-1] == '\\' {
			before--
		}
		switch count := at - before; {
		case escapes == 0 && count%2 == 0:
			return at
		case escapes > 0 && count == escapes:
			return before
		}
		i = at + len(mark)
	}
	return len(s)
}
