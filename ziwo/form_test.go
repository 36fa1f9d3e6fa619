package ziwo

import (
	"bytes"
	"errors"
	"io"
	"mime/multipart"
	"net/url"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// parseWithStdlib parses a form with mime/multipart. It returns false if the form is
// invalid.
func parseWithStdlib(boundary string, body []byte) ([]field, bool) {
	var fields []field
	reader := multipart.NewReader(bytes.NewReader(body), boundary)
	for {
		part, err := reader.NextPart()
		if errors.Is(err, io.EOF) {
			return fields, true
		}
		if err != nil {
			return nil, false
		}
		data, err := io.ReadAll(part)
		if err != nil {
			return nil, false
		}
		fields = append(fields, field{[]byte(part.FormName()), data})
	}
}

// checkScanner fails t if the scanner accepts a form and mime/multipart rejects it or
// returns other fields. The scanner may reject any form, which is then left to
// mime/multipart. checkScanner reports whether the scanner accepted the form.
func checkScanner(t interface {
	Helper()
	Fatalf(format string, args ...any)
}, boundary string, body []byte) (scanned bool) {
	t.Helper()
	got, ok := scanMultipart(nil, boundary, body, maxFields)
	if !ok {
		return false
	}
	want, ok := parseWithStdlib(boundary, body)
	if !ok {
		t.Fatalf("mime/multipart rejects %q, the scanner returned %q", body, got)
	}
	equal := func(a, b field) bool { return bytes.Equal(a.name, b.name) && bytes.Equal(a.value, b.value) }
	if !slices.EqualFunc(got, want, equal) {
		t.Fatalf("%q: the scanner returned %q, mime/multipart %q", body, got, want)
	}
	return true
}

func TestScanMultipartMatchesStdlib(t *testing.T) {
	// Pieces that may break a form.
	piece := rapid.SampledFrom([]string{
		"--b", "--b\r\n", "\r\n--b", "\r\n--b\r\n", "--b--", "\r\n--b--\r\n", "\r\n", "\r\n\r\n", "\n", "\r", "-", "--", " ", "\t", "b", "",
		"Content-Disposition: form-data; name=\"x\"", "Content-Disposition: form-data; name=\"didCalled\"\r\n\r\n",
		"Content-Disposition: form-data; name=\"x\"; filename=\"y\"\r\n", "Content-Disposition: form-data; name=x",
		"content-disposition:form-data;name=\"x\\\"\"", "Content-Type: text/plain\r\n", "Content-Length: 3\r\n", "X: y\r\n",
		"Content-Transfer-Encoding: quoted-printable\r\n", "042223344", "=34", "\x00", "é", ":", "\"", "\\", ";",
	})
	scanned := 0
	rapid.Check(t, func(t *rapid.T) {
		var body []byte
		for range rapid.IntRange(1, 3).Draw(t, "parts") {
			body = append(body, "--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n"...)
		}
		body = append(body, "--b--\r\n"...)
		for range rapid.IntRange(0, 2).Draw(t, "faults") {
			from := rapid.IntRange(0, len(body)).Draw(t, "from")
			to := rapid.IntRange(from, min(from+3, len(body))).Draw(t, "to")
			body = slices.Replace(body, from, to, []byte(piece.Draw(t, "piece"))...)
		}
		if checkScanner(t, "b", body) {
			scanned++
		}
	})
	if scanned == 0 {
		t.Error("the scanner accepted no form, so nothing was compared")
	}
}

func TestScanMultipartAcceptsStdlibForms(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var b bytes.Buffer
		w := multipart.NewWriter(&b)
		want := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) field {
			return field{
				rapid.SliceOfN(rapid.SampledFrom([]byte("abcXYZ019_-[]%")), 1, 20).Draw(t, "name"),
				rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "value"),
			}
		}), 1, 12).Draw(t, "fields")
		for _, f := range want {
			if err := w.WriteField(string(f.name), string(f.value)); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if !checkScanner(t, w.Boundary(), b.Bytes()) {
			t.Fatalf("the scanner rejected %q", b.Bytes())
		}
	})
}

func TestAppendURLEncodedMatchesStdlib(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := url.Values{}
		for range rapid.IntRange(0, 8).Draw(t, "fields") {
			want.Add(rapid.StringN(1, 10, 40).Draw(t, "name"), rapid.String().Draw(t, "value"))
		}
		var n notes
		fields, err := appendURLEncoded(nil, []byte(want.Encode()), maxFields, &n)
		if err != nil || n != nil {
			t.Fatalf("%v, notes %v", err, n)
		}
		got := url.Values{}
		for _, f := range fields {
			got.Add(string(f.name), string(f.value))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
	})
}

func FuzzMultipart(f *testing.F) {
	_, body := multipartBody(f, "didCalled", "042223344", "x", "y")
	f.Add("----------------------5d41402abc4b2a76", body)
	f.Add("b", []byte("--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n\r\n--b--\r\nepilogue"))
	f.Add("b", []byte("--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n--b--\r\n"))
	f.Add("b", []byte("--b\r\nContent-Disposition: form-data; name=\"a\"\r\nContent-Type: x\r\n\r\n\n--b\r\n--b--"))
	f.Fuzz(func(t *testing.T, boundary string, body []byte) {
		checkScanner(t, boundary, body)
	})
}
