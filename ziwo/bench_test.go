package ziwo

import (
	"bytes"
	"mime/multipart"
	"os"
	"testing"
)

// multipartBody returns a form as curl --form sends it.
func multipartBody(tb testing.TB, pairs ...string) (contentType string, body []byte) {
	tb.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	if err := w.SetBoundary("------------------------5d41402abc4b2a76"); err != nil {
		tb.Fatal(err)
	}
	for i := 0; i < len(pairs); i += 2 {
		if err := w.WriteField(pairs[i], pairs[i+1]); err != nil {
			tb.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return "multipart/form-data; boundary=" + w.Boundary(), b.Bytes()
}

func BenchmarkParseStartRequest(b *testing.B) {
	didType, did := multipartBody(b, "didCalled", "042223344")
	fullType, full := multipartBody(b, "didCalled", "042223344",
		"callerIDNumber", "0567654321", "callID", "9b2f6a10-3c1d-4d55-8a0e-7f4b1c2d3e4f")
	otherType, other := multipartBody(b, "didCalled", "042223344", "campaign", "spring")
	for _, bench := range []struct {
		name, contentType string
		body              []byte
	}{
		{"multipart", didType, did},
		{"multipart with caller and call id", fullType, full},
		{"multipart with another field", otherType, other},
		{"multipart parsed by mime/multipart", "multipart/form-data; boundary=\"------------------------5d41402abc4b2a76\"", bytes.ReplaceAll(did, []byte("\r\n"), []byte("\n"))},
		{"urlencoded", "application/x-www-form-urlencoded", []byte("didCalled=042223344")},
		{"json", "application/json", []byte(`{"didCalled":"042223344","callerIDNumber":"0567654321"}`)},
	} {
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := ParseStartRequest(bench.contentType, "", bench.body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkParseCDR(b *testing.B) {
	body, err := os.ReadFile("testdata/endcall-2016.json")
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseCDR("application/json", "", body); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkStartAnswer(b *testing.B) {
	dst := make([]byte, 0, 512)
	b.ReportAllocs()
	for b.Loop() {
		answer := AppendStartAnswer(dst, "042223344")
		answer.Rule("call", "0567654321", "042223344", 10)
		answer.Rule("call", "045556677", "042223344", 20)
		dst = answer.End("voicemail", true)[:0]
	}
}
