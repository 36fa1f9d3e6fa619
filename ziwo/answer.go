package ziwo

import (
	"strconv"
	"unicode/utf8"
)

// StartAnswer writes the answer to one start call: AppendStartAnswer, then Rule
// for each rule in order, then End. It is no more than the bytes so far; copies
// share them, so use one.
type StartAnswer struct {
	dst   []byte
	rules int
}

// AppendStartAnswer begins an answer at the end of dst. didCalled is echoed as
// it came.
func AppendStartAnswer(dst []byte, didCalled string) StartAnswer {
	dst = append(dst, `{"result":true,"content":{"didCalled":`...)
	dst = AppendString(dst, didCalled)
	return StartAnswer{dst: append(dst, `,"rules":[`...)}
}

// Rule adds a rule: ring number for timeout seconds, showing callerID to
// whoever is called. Ziwo documents only the action "call"
// (https://www.ziwo.io/api-integration-developers/).
func (a *StartAnswer) Rule(action, number, callerID string, timeout int) {
	if a.rules > 0 {
		a.dst = append(a.dst, ',')
	}
	a.rules++
	a.dst = append(a.dst, `{"action":`...)
	a.dst = AppendString(a.dst, action)
	a.dst = append(a.dst, `,"number":`...)
	a.dst = AppendString(a.dst, number)
	a.dst = append(a.dst, `,"callerID":`...)
	a.dst = AppendString(a.dst, callerID)
	a.dst = append(a.dst, `,"timeout":`...)
	a.dst = strconv.AppendInt(a.dst, int64(timeout), 10)
	a.dst = append(a.dst, '}')
}

// End adds the voicemail flag under the name voicemailField, which Ziwo does
// not publish, or leaves it out when the name is empty. It returns the whole of
// dst; the writer is spent.
func (a *StartAnswer) End(voicemailField string, voicemail bool) []byte {
	dst := a.dst
	dst = append(dst, ']')
	if voicemailField != "" {
		dst = append(dst, ',')
		dst = AppendString(dst, voicemailField)
		dst = append(dst, ':')
		dst = strconv.AppendBool(dst, voicemail)
	}
	return append(dst, `},"info":{}}`...)
}

// AppendOK appends the answer to an end call that was kept, with what was odd
// about it, if anything, in "info".
func AppendOK(dst []byte, warnings ...string) []byte {
	dst = append(dst, `{"result":true,"content":{},"info":{`...)
	for i, warning := range warnings {
		if i == 0 {
			dst = append(dst, `"warnings":[`...)
		} else {
			dst = append(dst, ',')
		}
		dst = AppendString(dst, warning)
	}
	if len(warnings) > 0 {
		dst = append(dst, ']')
	}
	return append(dst, "}}"...)
}

// AppendError appends the envelope of a refusal.
func AppendError(dst []byte, message string) []byte {
	dst = append(dst, `{"result":false,"content":{},"info":{},"error":{"message":`...)
	dst = AppendString(dst, message)
	return append(dst, "}}"...)
}

// AppendString appends s as a JSON string. What is no UTF-8 becomes U+FFFD;
// U+2028 and U+2029 are escaped, since old JavaScript ends a line there.
func AppendString(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	clean := 0 // s[clean:i] needs no escape
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			switch {
			case r == utf8.RuneError && size == 1:
				dst = append(append(dst, s[clean:i]...), "\ufffd"...)
			case r == '\u2028' || r == '\u2029':
				dst = append(append(dst, s[clean:i]...), `\u202`...)
				dst = append(dst, hex[r&0xf])
			default:
				i += size
				continue
			}
			i += size
			clean = i
			continue
		}
		dst = append(dst, s[clean:i]...)
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, `\n`...)
		case '\r':
			dst = append(dst, `\r`...)
		case '\t':
			dst = append(dst, `\t`...)
		default:
			dst = append(dst, `\u00`...)
			dst = append(dst, hex[c>>4], hex[c&0xf])
		}
		i++
		clean = i
	}
	dst = append(dst, s[clean:]...)
	return append(dst, '"')
}
