package ziwo

import (
	"strconv"
	"unicode/utf8"
)

// StartAnswer writes the answer to one start call. AppendStartAnswer begins the
// answer, Rule adds each rule in order, and End completes it. Copies of a
// StartAnswer share their bytes; use only one.
type StartAnswer struct {
	dst   []byte
	rules int
}

// AppendStartAnswer begins an answer at the end of dst. The answer repeats
// didCalled unchanged.
func AppendStartAnswer(dst []byte, didCalled string) StartAnswer {
	dst = append(dst, `{"result":true,"content":{"didCalled":`...)
	dst = AppendString(dst, didCalled)
	return StartAnswer{dst: append(dst, `,"rules":[`...)}
}

// Rule adds a rule: ring number for timeout seconds and show callerID there. Ziwo
// documents only the action "call"
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

// End completes the answer and returns dst. It writes the voicemail flag under the
// name voicemailField, which Ziwo does not publish, or omits it if the name is
// empty. The StartAnswer must not be used afterward.
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

// AppendOK appends the answer to an end call that was saved, with any warnings in
// "info".
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

// AppendError appends an error response.
func AppendError(dst []byte, message string) []byte {
	dst = append(dst, `{"result":false,"content":{},"info":{},"error":{"message":`...)
	dst = AppendString(dst, message)
	return append(dst, "}}"...)
}

// AppendString appends s as a JSON string. It replaces invalid UTF-8 with U+FFFD.
// It escapes U+2028 and U+2029, which end a line in old JavaScript.
func AppendString(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	start := 0 // s[start:i] needs no escape
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
				dst = append(append(dst, s[start:i]...), "\ufffd"...)
			case r == '\u2028' || r == '\u2029':
				dst = append(append(dst, s[start:i]...), `\u202`...)
				dst = append(dst, hex[r&0xf])
			default:
				i += size
				continue
			}
			i += size
			start = i
			continue
		}
		dst = append(dst, s[start:i]...)
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
		start = i
	}
	dst = append(dst, s[start:]...)
	return append(dst, '"')
}
