package ziwo

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseStartRequest(t *testing.T) {
	formType, form := multipartBody(t, "didCalled", "042223344")
	_, fullForm := multipartBody(t, "didCalled", "042223344", "callerIDNumber", "0567654321",
		"callerIDName", "Huda", "callID", "c-1", "Campaign", "spring", "empty", "")
	for _, tc := range []struct {
		name        string
		contentType string
		query       string
		body        string
		want        StartRequest
	}{
		{
			name: "documented form", contentType: formType, body: string(form),
			want: StartRequest{DIDCalled: "042223344"},
		},
		{
			name: "form with all fields", contentType: formType, body: string(fullForm),
			want: StartRequest{
				DIDCalled: "042223344", Caller: "0567654321", CallerName: "Huda", CallID: "c-1",
				Fields: map[string]string{"campaign": "spring", "empty": ""},
			},
		},
		{
			name: "form without a Content-Type", body: string(form),
			want: StartRequest{DIDCalled: "042223344"},
		},
		{
			name: "form declared as JSON", contentType: "application/json", body: string(form),
			want: StartRequest{DIDCalled: "042223344", Notes: []string{NoteContentTypeMismatch}},
		},
		{
			name: "form with another boundary in its Content-Type", contentType: "multipart/form-data; boundary=other", body: string(form),
			want: StartRequest{DIDCalled: "042223344", Notes: []string{NoteContentTypeMismatch}},
		},
		{
			name: "form without a boundary in its Content-Type", contentType: "multipart/form-data", body: string(form),
			want: StartRequest{DIDCalled: "042223344", Notes: []string{NoteContentTypeMismatch}},
		},
		{
			name: "form with a quoted boundary and capitals", contentType: `Multipart/Form-Data; Boundary="x y"`,
			body: "--x y\r\nCONTENT-DISPOSITION: form-data; name=\"DIDCALLED\"\r\n\r\n042223344\r\n--x y--\r\n",
			want: StartRequest{DIDCalled: "042223344"},
		},
		{
			name: "form with line feeds only", contentType: "multipart/form-data; boundary=b",
			body: "--b\nContent-Disposition: form-data; name=\"didCalled\"\n\n042223344\n--b--\n",
			want: StartRequest{DIDCalled: "042223344"},
		},
		{
			name: "form after a preamble", contentType: "multipart/form-data; boundary=b",
			body: "this is a form\r\n--b\r\nContent-Disposition: form-data; name=\"didCalled\"\r\n\r\n042223344\r\n--b--\r\n",
			want: StartRequest{DIDCalled: "042223344"},
		},
		{
			name: "form with a file part, a type and a quoted-printable value", contentType: "multipart/form-data; boundary=b",
			body: "--b\r\nContent-Disposition: form-data; name=\"didCalled\"; filename=\"did\"\r\nContent-Type: text/plain\r\n" +
				"Content-Transfer-Encoding: quoted-printable\r\n\r\n=30422=\r\n23344\r\n--b--\r\n",
			want: StartRequest{DIDCalled: "042223344"},
		},
		{
			name: "form without its final boundary", contentType: "multipart/form-data; boundary=b",
			body: "--b\r\nContent-Disposition: form-data; name=\"didCalled\"\r\n\r\n042223344\r\n",
			want: StartRequest{DIDCalled: "042223344", Notes: []string{NoteMissingBoundary}},
		},
		{
			name: "form truncated after its first part", contentType: "multipart/form-data; boundary=b",
			body: "--b\r\nContent-Disposition: form-data; name=\"didCalled\"\r\n\r\n042223344\r\n--b\r\nContent-Disp",
			want: StartRequest{DIDCalled: "042223344", Notes: []string{NoteMissingBoundary}},
		},
		{
			name: "part without a name", contentType: "multipart/form-data; boundary=b",
			body: "--b\r\nContent-Disposition: form-data; name=\"\"\r\n\r\nx\r\n--b\r\nContent-Disposition: form-data; name=\"did\"\r\n\r\n042223344\r\n--b--\r\n",
			want: StartRequest{DIDCalled: "042223344"},
		},
		{
			name: "urlencoded", contentType: "application/x-www-form-urlencoded; charset=utf-8",
			body: "didCalled=%2B97142223344&callerIDNumber=0567654321&note=a+b%21\r\n",
			want: StartRequest{DIDCalled: "+97142223344", Caller: "0567654321", Fields: map[string]string{"note": "a b!"}},
		},
		{
			name: "urlencoded with an unencoded plus", body: "didCalled=+97142223344",
			want: StartRequest{DIDCalled: " 97142223344"},
		},
		{
			name: "urlencoded with invalid escapes", body: "didCalled=042223344&&discount=50%&x=%zz%4",
			want: StartRequest{
				DIDCalled: "042223344", Fields: map[string]string{"discount": "50%", "x": "%zz%4"},
				Notes: []string{NoteBadEscape},
			},
		},
		{
			name: "urlencoded declared as a form", contentType: formType, body: "didCalled=042223344",
			want: StartRequest{DIDCalled: "042223344", Notes: []string{NoteContentTypeMismatch}},
		},
		{
			name: "text/plain", contentType: "text/plain", body: "didCalled=042223344",
			want: StartRequest{DIDCalled: "042223344", Notes: []string{NoteContentTypeMismatch}},
		},
		{
			name: "JSON", contentType: "application/json; charset=utf-8",
			body: `{"didCalled":"042223344","callerIDNumber":"0567654321","CallId":"c-1","vip":true,"tries":2,"none":null,"tags":["a", 1]}`,
			want: StartRequest{
				DIDCalled: "042223344", Caller: "0567654321", CallID: "c-1",
				Fields: map[string]string{"vip": "true", "tries": "2", "tags": `["a", 1]`},
			},
		},
		{
			name: "JSON declared as urlencoded", contentType: "application/x-www-form-urlencoded", body: ` {"didCalled":"042223344"}`,
			want: StartRequest{DIDCalled: "042223344", Notes: []string{NoteContentTypeMismatch}},
		},
		{
			name: "JSON with a byte order mark", contentType: "text/json", body: "\ufeff{\"didCalled\":\"042223344\"}",
			want: StartRequest{DIDCalled: "042223344"},
		},
		{
			name: "JSON under content", body: `{"action":"start","content":{"didCalled":"042223344","callID":"c-1"}}`,
			want: StartRequest{DIDCalled: "042223344", CallID: "c-1", Fields: map[string]string{"action": "start"}},
		},
		{
			name: "JSON text under content", body: `{"content":"{\"didCalled\":\"042223344\"}"}`,
			want: StartRequest{DIDCalled: "042223344"},
		},
		{
			name: "content that is not an object", body: `{"didCalled":"042223344","content":"hello"}`,
			want: StartRequest{DIDCalled: "042223344", Fields: map[string]string{"content": "hello"}},
		},
		{
			name: "array of one", body: `[{"didCalled":"042223344"}]`,
			want: StartRequest{DIDCalled: "042223344", Notes: []string{NoteWrappedList}},
		},
		{
			name: "JSON in a JSON string", body: `"{\"didCalled\":\"042223344\"}"`,
			want: StartRequest{DIDCalled: "042223344"},
		},
		{
			name: "numbers", body: `{"didCalled":42223344,"callerIDNumber":971567654321,"callID":77}`,
			want: StartRequest{
				DIDCalled: "42223344", Caller: "971567654321", CallID: "77",
				Notes: []string{NoteCallerNumberType, NoteDIDNumberType},
			},
		},
		{
			name: "escapes in names and values", body: `{"did\u0043alled":"04222\u0033344"}`,
			want: StartRequest{DIDCalled: "042223344"},
		},
		{
			name: "typographic quotes", contentType: "application/json", body: "{\u00a0“didCalled”: „042223344‟}",
			want: StartRequest{DIDCalled: "042223344", Notes: []string{NoteCurlyQuotes}},
		},
		{
			name: "typographic quotes within valid JSON", body: `{"didCalled":"042223344","company":"“Best” Cars"}`,
			want: StartRequest{DIDCalled: "042223344", Fields: map[string]string{"company": "“Best” Cars"}},
		},
		{
			name: "query only", query: "didCalled=042223344&callID=c-1&utm=x",
			want: StartRequest{DIDCalled: "042223344", CallID: "c-1", Fields: map[string]string{"utm": "x"}},
		},
		{
			name: "body before query", contentType: formType, body: string(fullForm),
			query: "didCalled=1&callerIDNumber=2&campaign=3&empty=4&from=5&more=6",
			want: StartRequest{
				DIDCalled: "042223344", Caller: "0567654321", CallerName: "Huda", CallID: "c-1",
				Fields: map[string]string{"campaign": "spring", "empty": "4", "more": "6"},
			},
		},
		{
			name: "query fills gaps", body: `{"callID":"c-1"}`, query: "did=042223344",
			want: StartRequest{DIDCalled: "042223344", CallID: "c-1"},
		},
		{
			name: "unreadable body with a query", contentType: "application/json", body: `{"didCalled":`, query: "didCalled=042223344",
			want: StartRequest{DIDCalled: "042223344", Notes: []string{NoteUnreadableBody}},
		},
		{
			name: "first non-empty value", body: "didCalled=&didCalled=042223344&didCalled=1&x=&x=2&x=3",
			want: StartRequest{DIDCalled: "042223344", Fields: map[string]string{"x": "2"}},
		},
		{
			name: "preferred name wins", body: "from=5&caller=4&callerID=3&calerIDNumber=2&callerIdNumber=1&did=7&didCalled=042223344&uuid=u&call_id=c",
			want: StartRequest{DIDCalled: "042223344", Caller: "1", CallID: "c"},
		},
		{
			name: "unknown means none", body: `{"didCalled":"042223344","callerIDNumber":"unknown","callID":null,"callerIDName":" ","from":"NULL"}`,
			want: StartRequest{DIDCalled: "042223344"},
		},
		{
			name: "DID byte for byte", body: "didCalled=%20+971%20(4)%20222-3344%09",
			want: StartRequest{DIDCalled: "  971 (4) 222-3344\t"},
		},
		{
			name: "DID that is not a number", body: `{"didCalled":"unknown\u0000\ud83d"}`,
			want: StartRequest{DIDCalled: "unknown\x00\ufffd"},
		},
		{
			name: "too long caller", body: "didCalled=042223344&caller=" + strings.Repeat("5", 300),
			want: StartRequest{DIDCalled: "042223344", Notes: []string{NoteTextCut}},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := ParseStartRequest(tc.contentType, tc.query, []byte(tc.body))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestParseStartRequestAliases(t *testing.T) {
	read := func(t *testing.T, name string) StartRequest {
		t.Helper()
		got, err := ParseStartRequest("", "", fmt.Appendf(nil, `{"didCalled":"1",%q:"2"}`, name))
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	for _, name := range []string{"callerIDNumber", "callerIdNumber", "CALLERIDNUMBER", "caller_id_number", "calerIDNumber", "callerID", "caller-id", "caller", "From"} {
		if got := read(t, name); got.Caller != "2" || got.Fields != nil {
			t.Errorf("%s is not the caller: %+v", name, got)
		}
	}
	for _, name := range []string{"callerIDName", "callerIdName", "caller_id_name", "callerName"} {
		if got := read(t, name); got.CallerName != "2" || got.Fields != nil {
			t.Errorf("%s is not the caller's name: %+v", name, got)
		}
	}
	for _, name := range []string{"callID", "callId", "call_id", "CallID", "uuid", "primaryCallID"} {
		if got := read(t, name); got.CallID != "2" || got.Fields != nil {
			t.Errorf("%s is not the call id: %+v", name, got)
		}
	}
	for _, name := range []string{"didCalled", "DIDCalled", "did_called", "did", "calledNumber", "calleeIdNumber"} {
		got, err := ParseStartRequest("", "", fmt.Appendf(nil, `{%q:"2"}`, name))
		if err != nil || got.DIDCalled != "2" {
			t.Errorf("%s is not the DID: %+v, %v", name, got, err)
		}
	}
	if got := read(t, "callerIDNumberOfTheOtherPersonInTheCall"); got.Caller != "" || len(got.Fields) != 1 {
		t.Errorf("a long unknown name set a known field: %+v", got)
	}
}

func TestParseStartRequestErrors(t *testing.T) {
	_, nameless := multipartBody(t, "", "x")
	for _, tc := range []struct {
		name, contentType, query, body string
		reason                         string
		reportsFailure                 string
	}{
		{name: "empty request", reason: ReasonNoDID, reportsFailure: "no fields"},
		{name: "blank body", body: " \r\n\t", reason: ReasonNoDID, reportsFailure: "no fields"},
		{name: "other fields", body: "callID=1&b=2&a=3", reason: ReasonNoDID, reportsFailure: `in the fields of the request ("a", "b")`},
		{name: "many other fields", body: "a=&b=&c=&d=&e=&f=&g=&h=&i=&j=&k=&l=", reason: ReasonNoDID, reportsFailure: `"j", …)`},
		{name: "empty DID", body: "didCalled=%20", reason: ReasonNoDID, reportsFailure: "no value for didCalled"},
		{name: "null DID", body: `{"didCalled":null}`, reason: ReasonNoDID, reportsFailure: "a JSON null"},
		{name: "object as DID", body: `{"didCalled":{"number":"042223344"}}`, reason: ReasonNoDID, reportsFailure: "a JSON object"},
		{name: "JSON array", body: `[{"didCalled":"1"},{"didCalled":"2"}]`, reason: ReasonUnreadableJSON, reportsFailure: "the body is a JSON array"},
		{name: "empty JSON array", body: `[ ]`, reason: ReasonUnreadableJSON, reportsFailure: "the body is a JSON array"},
		{name: "JSON number", contentType: "application/json", body: `42223344`, reason: ReasonUnreadableJSON, reportsFailure: "the body is a JSON number"},
		{name: "JSON string", body: `"042223344"`, reason: ReasonUnreadableJSON, reportsFailure: "the body is a JSON string"},
		{name: "invalid JSON", body: "\r\n{\n  \"didCalled\": 042223344\n}", reason: ReasonUnreadableJSON, reportsFailure: "line 3, column 17"},
		{name: "truncated JSON", body: `{"didCalled":"04222`, reason: ReasonUnreadableJSON, reportsFailure: "unexpected end"},
		{name: "JSON too deep", body: `{"a":` + strings.Repeat("[", 20000), reason: ReasonUnreadableJSON, reportsFailure: "exceeded max depth"},
		{name: "garbage", body: "\x00\x01\x02", reason: ReasonUnreadableBody, reportsFailure: "neither"},
		{name: "bare number", contentType: "text/plain", body: "042223344", reason: ReasonUnreadableBody, reportsFailure: "neither"},
		{name: "XML", contentType: "text/xml", body: `<a b="1">`, reason: ReasonUnreadableBody, reportsFailure: "neither"},
		{name: "form without parts", contentType: "multipart/form-data; boundary=b", body: "--b--", reason: ReasonUnreadableForm, reportsFailure: "boundary"},
		{name: "empty boundary", contentType: `multipart/form-data; boundary=""`, body: "--\r\n", reason: ReasonUnreadableForm, reportsFailure: "boundary"},
		{name: "nameless form", body: string(nameless), reason: ReasonUnreadableForm, reportsFailure: "names its field"},
		{name: "many fields", body: strings.Repeat("a=1&", 101) + "didCalled=1", reason: ReasonTooManyFields, reportsFailure: "more than 100"},
		{name: "many members", body: `{"didCalled":"1"` + strings.Repeat(`,"a":1`, 100) + `}`, reason: ReasonTooManyFields, reportsFailure: "more than 100"},
		{name: "many members under content", body: `{"content":{"didCalled":"1"` + strings.Repeat(`,"a":1`, 100) + `}}`, reason: ReasonTooManyFields, reportsFailure: "more than 100"},
		{name: "many fields in body and query", body: strings.Repeat("a=1&", 60), query: strings.Repeat("a=1&", 60), reason: ReasonTooManyFields, reportsFailure: "more than 100"},
		{name: "many fields in the query", query: strings.Repeat("a=1&", 101), body: "didCalled=1", reason: ReasonTooManyFields, reportsFailure: "more than 100"},
		{name: "long name", body: strings.Repeat("a", 256) + "=1&" + strings.Repeat("b", 257) + "=1&didCalled=1", reason: ReasonNameTooLong, reportsFailure: "field 2"},
		{name: "long DID", body: "didCalled=" + strings.Repeat("1", 257), reason: ReasonDIDTooLong, reportsFailure: "257 bytes"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := ParseStartRequest(tc.contentType, tc.query, []byte(tc.body))
			var parseErr *ParseError
			if !errors.As(err, &parseErr) {
				t.Fatalf("got %+v, %v, want a *ParseError", got, err)
			}
			if parseErr.Reason != tc.reason || !strings.Contains(parseErr.Message, tc.reportsFailure) {
				t.Errorf("got %s: %s\nwant %s: …%s…", parseErr.Reason, parseErr.Message, tc.reason, tc.reportsFailure)
			}
			if errors.Is(err, ErrNoDID) != (tc.reason == ReasonNoDID) {
				t.Errorf("errors.Is(err, ErrNoDID) is wrong for %s", parseErr.Reason)
			}
		})
	}
}

func TestParseStartRequestManyParts(t *testing.T) {
	pairs := slices.Repeat([]string{"a", "1"}, 100)
	contentType, body := multipartBody(t, append(pairs, "didCalled", "042223344")...)
	var parseErr *ParseError
	if got, err := ParseStartRequest(contentType, "", body); !errors.As(err, &parseErr) || parseErr.Reason != ReasonTooManyFields {
		t.Errorf("101 parts: got %+v, %v, want too many fields", got, err)
	}
	contentType, body = multipartBody(t, append(pairs[2:], "didCalled", "042223344")...)
	if got, err := ParseStartRequest(contentType, "", body); err != nil || got.DIDCalled != "042223344" {
		t.Errorf("100 parts: got %+v, %v", got, err)
	}
}

// TestParseStartRequestDoesNotAliasBody reuses the body, as the server does.
func TestParseStartRequestDoesNotAliasBody(t *testing.T) {
	contentType, form := multipartBody(t, "didCalled", "042223344", "from", "0567654321", "callID", "c-1", "x", "y")
	for name, body := range map[string][]byte{
		contentType:        form,
		"application/json": []byte(`{"didCalled":"042223344","from":"0567654321","callID":"c-1","x":"y"}`),
	} {
		got, err := ParseStartRequest(name, "", body)
		if err != nil {
			t.Fatal(err)
		}
		clear(body)
		want := StartRequest{DIDCalled: "042223344", Caller: "0567654321", CallID: "c-1", Fields: map[string]string{"x": "y"}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
}

func TestParseStartRequestAllocations(t *testing.T) {
	contentType, body := multipartBody(t, "didCalled", "042223344", "callerIDNumber", "0567654321")
	allocs := testing.AllocsPerRun(100, func() {
		if _, err := ParseStartRequest(contentType, "", body); err != nil {
			t.Fatal(err)
		}
	})
	if allocs > 2 {
		t.Errorf("%v allocations, want at most 2: one for each text", allocs)
	}
}

func FuzzParseStartRequest(f *testing.F) {
	contentType, body := multipartBody(f, "didCalled", "042223344", "from", "0567654321", "x", "y")
	f.Add(contentType, "", body)
	f.Add("multipart/form-data; boundary=b", "", []byte("--b\nContent-Disposition: form-data; name=didCalled\n\n1\n--b--"))
	f.Add("multipart/form-data", "a=b", []byte("--b\r\nContent-Disposition: form-data; name=\"didCalled\"; filename=x\r\n\r\n1\r\n--b"))
	f.Add("application/x-www-form-urlencoded", "callID=%zz", []byte("didCalled=%2B1&a=+&=&&b"))
	f.Add("application/json", "did=5", []byte(`{"content":{"didCalled":1e3},"a":[{}],"b":"\ud800"}`))
	f.Add("", "", []byte(`[{"didCalled":"1","content":"[\"{}\"]"}]`))
	f.Add("", "didCalled=1", []byte("{“didCalled”: “1”}"))
	f.Fuzz(func(t *testing.T, contentType, query string, body []byte) {
		got, err := ParseStartRequest(contentType, query, body)
		var parseErr *ParseError
		switch {
		case err != nil && !errors.As(err, &parseErr):
			t.Fatalf("%v is not a *ParseError", err)
		case err != nil && (parseErr.Reason == "" || parseErr.Message == ""):
			t.Fatalf("%+v lacks a reason or a message", parseErr)
		case err == nil && strings.TrimSpace(got.DIDCalled) == "":
			t.Fatal("no DID and no error")
		}
		if !slices.IsSorted(got.Notes) || got.Notes != nil && len(got.Notes) == 0 || got.Fields != nil && len(got.Fields) == 0 {
			t.Fatalf("unsorted or empty, non-nil fields: %+v", got)
		}
		for name := range got.Fields {
			if known, _ := startFieldOf([]byte(name)); known != otherField {
				t.Fatalf("Fields contains the known field %q", name)
			}
		}
		again, againErr := ParseStartRequest(contentType, query, body)
		if diff := cmp.Diff(got, again); diff != "" || (err == nil) != (againErr == nil) {
			t.Fatalf("two results differ: %s", diff)
		}
	})
}
