package ziwo

import (
	"bytes"
	"encoding/json"
	"net/url"
	"strings"
)

// mask replaces a secret.
const mask = "***"

// MaskSecrets returns body as valid JSON for display, with the values of names such
// as ccPassword, access_token, and api_key replaced by "***" at any depth. (The agent
// in a CDR includes the agent's telephony password.) JSON remains the same document,
// including the order of members and the spelling of numbers. Any other body becomes
// a JSON string; in it, MaskSecrets finds such names in forms, headers, and invalid
// JSON. It replaces invalid UTF-8 with U+FFFD.
func MaskSecrets(body []byte) []byte {
	body = bytes.ToValidUTF8(bytes.TrimPrefix(body, []byte("\ufeff")), []byte("\ufffd"))
	if json.Valid(body) {
		return maskJSON(body, 0)
	}
	return AppendString(nil, maskText(maskEncoded(string(body), 0)))
}

// secretName reports whether the value of name is secret. If in doubt, it is.
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

// maxMaskDepth is the number of nested layers of JSON or form in a string that are
// decoded. Deeper layers are masked as text.
const maxMaskDepth = 3

// maskJSON returns a masked copy of valid JSON. It scans for strings and does not
// recurse into the tree.
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

// appendMasked appends a masked JSON string. A string without secrets is unchanged.
func appendMasked(out, token []byte, depth int) []byte {
	inner := unquote(token)
	masked := maskInside(inner, depth+1)
	if masked == string(inner) {
		return append(out, token...)
	}
	return AppendString(out, masked)
}

// maskInside masks a text, which may itself be JSON or a form.
func maskInside(inner []byte, depth int) string {
	if depth > maxMaskDepth {
		return maskText(string(inner))
	}
	if start := skipSpace(inner, 0); start < len(inner) && strings.IndexByte(`{["`, inner[start]) >= 0 && json.Valid(inner) {
		return string(maskJSON(inner, depth))
	}
	return maskText(maskEncoded(string(inner), depth))
}

// maskEncoded masks text as a form if it is one, or else each of its words, which
// may be URLs.
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

// maskForm masks the values of a form such as a=1&b=2 that have secret names, and
// the secrets in its other values. To find them, it decodes names and values.
// Pairs without secrets are unchanged.
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

// maskText masks the values of secret names in free text: password=…,
// "password": "…", Authorization: …, with straight, escaped, or typographic quotes,
// and the parts of a multipart form. If a value has no clear end, it masks the rest
// of the text.
func maskText(s string) string {
	var out strings.Builder
	written := 0 // s[:written] is in out
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
		out.WriteString(s[written:from])
		out.WriteString(mask)
		written, i = to, to
	}
	if written == 0 {
		return s
	}
	out.WriteString(s[written:])
	return out.String()
}

// isNameByte reports whether c can occur in the name of a secret.
func isNameByte(c byte) bool {
	c = lower(c)
	return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '_' || c == '-'
}

// findSecret returns the range s[from:to] of the value of the secret name
// s[start:end]. The range is empty if no value follows.
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

// findPartValue returns the range of the value of a part in a multipart form:
// name="password", a blank line, the value, a line that starts with "--".
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

// skipBlank returns the index of the first byte of s[i:] that is not white space.
func skipBlank(s string, i int) int {
	for i < len(s) && strings.IndexByte(jsonSpace, s[i]) >= 0 {
		i++
	}
	return i
}

// quoteAt returns the quotation mark at s[i:] with the backslashes that escape it
// in JSON within a string. It returns "" if there is none.
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

// closingLength returns the length of the value at the start of s, up to the
// quotation mark that closes open, or the length of s if there is none.
func closingLength(s, open string) int {
	escapes := strings.Count(open, `\`)
	mark := open[escapes:]
	idFields := mark
	if len(mark) > 1 { // any typographic quotation mark closes another
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
