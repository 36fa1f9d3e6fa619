package ziwo

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestStartAnswer(t *testing.T) {
	for _, tc := range []struct {
		name           string
		did            string
		rules          []wireRule
		voicemailField string
		voicemail      bool
		want           string
	}{
		{
			name: "one rule", did: "042223344", voicemailField: "voicemail", voicemail: true,
			rules: []wireRule{{"call", "0567654321", "042223344", 15}},
			want:  `{"result":true,"content":{"didCalled":"042223344","rules":[{"action":"call","number":"0567654321","callerID":"042223344","timeout":15}],"voicemail":true},"info":{}}`,
		},
		{
			name: "two rules, no voicemail field", did: "+97142223344",
			rules: []wireRule{{"call", "0567654321", "", 10}, {"call", "045556677", "042223344", 0}},
			want: `{"result":true,"content":{"didCalled":"+97142223344","rules":[{"action":"call","number":"0567654321","callerID":"","timeout":10},` +
				`{"action":"call","number":"045556677","callerID":"042223344","timeout":0}]},"info":{}}`,
		},
		{
			name: "no rules give an empty array", did: "042223344", voicemailField: "voiceMail",
			want: `{"result":true,"content":{"didCalled":"042223344","rules":[],"voiceMail":false},"info":{}}`,
		},
		{
			name: "special characters", did: "\"\\/<&>\x00\x1f\x7f\b\f\n\r\té\u2028\u2029\xff\xed\xa0\x80😀",
			want: `{"result":true,"content":{"didCalled":"\"\\/<&>\u0000\u001f` + "\x7f" + `\u0008\u000c\n\r\té\u2028\u2029` + "\ufffd\ufffd\ufffd\ufffd😀" + `","rules":[]},"info":{}}`,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			answer := AppendStartAnswer([]byte("before "), tc.did)
			for _, r := range tc.rules {
				answer.Rule(r.Action, r.Number, r.CallerID, r.Timeout)
			}
			if got := string(answer.End(tc.voicemailField, tc.voicemail)); got != "before "+tc.want {
				t.Errorf("got  %s\nwant before %s", got, tc.want)
			}
		})
	}
}

func TestAppendOK(t *testing.T) {
	for _, tc := range []struct {
		name     string
		warnings []string
		want     string
	}{
		{"no warnings", nil, `{"result":true,"content":{},"info":{}}`},
		{"one warning", []string{"not a CDR"}, `{"result":true,"content":{},"info":{"warnings":["not a CDR"]}}`},
		{"two warnings", []string{"a", `"b"`}, `{"result":true,"content":{},"info":{"warnings":["a","\"b\""]}}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := string(AppendOK([]byte("x"), tc.warnings...)); got != "x"+tc.want {
				t.Errorf("got %s, want x%s", got, tc.want)
			}
		})
	}
}

func TestAppendError(t *testing.T) {
	want := `x{"result":false,"content":{},"info":{},"error":{"message":"no \"didCalled\""}}`
	if got := string(AppendError([]byte("x"), `no "didCalled"`)); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// Without the voicemail flag, an answer has the bytes in Ziwo's documentation.
func TestAnswersMatchDocumentation(t *testing.T) {
	answer := AppendStartAnswer(nil, "042223344")
	answer.Rule("call", "0567654321", "042223344", 15)
	if diff := cmp.Diff(string(fixture(t, "startcall-response.json")), string(answer.End("", true))+"\n"); diff != "" {
		t.Error(diff)
	}
	var documented bytes.Buffer
	if err := json.Compact(&documented, fixture(t, "write-response.json")); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(documented.String(), string(AppendOK(nil))); diff != "" {
		t.Error(diff)
	}
}

// wireRule and wireAnswer decode an answer.
type wireRule struct {
	Action   string `json:"action"`
	Number   string `json:"number"`
	CallerID string `json:"callerID"`
	Timeout  int    `json:"timeout"`
}

type wireAnswer struct {
	Result  bool `json:"result"`
	Content struct {
		DIDCalled string     `json:"didCalled"`
		Rules     []wireRule `json:"rules"`
		Voicemail *bool      `json:"voicemail"`
	} `json:"content"`
	Info  map[string][]string `json:"info"`
	Error struct {
		Message string `json:"message"`
	} `json:"error"`
}

// anyText generates texts with arbitrary bytes, as a client may send them.
func anyText() *rapid.Generator[string] {
	return rapid.OneOf(rapid.String(), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }))
}

// asUTF8 replaces each invalid byte, as JSON decoders do.
func asUTF8(s string) string { return string([]rune(s)) }

func TestAnswersRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		did := anyText().Draw(t, "did")
		voicemail := rapid.Bool().Draw(t, "voicemail")
		var want wireAnswer
		want.Result = true
		want.Content.DIDCalled = asUTF8(did)
		want.Content.Voicemail = &voicemail
		want.Content.Rules = []wireRule{}
		want.Info = map[string][]string{}
		answer := AppendStartAnswer(nil, did)
		for range rapid.IntRange(0, 4).Draw(t, "rules") {
			action, number, callerID := anyText().Draw(t, "action"), anyText().Draw(t, "number"), anyText().Draw(t, "callerID")
			timeout := rapid.Int().Draw(t, "timeout")
			answer.Rule(action, number, callerID, timeout)
			want.Content.Rules = append(want.Content.Rules, wireRule{asUTF8(action), asUTF8(number), asUTF8(callerID), timeout})
		}
		var got wireAnswer
		if err := json.Unmarshal(answer.End("voicemail", voicemail), &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}

		message := anyText().Draw(t, "message")
		var ok, rejected wireAnswer
		if err := json.Unmarshal(AppendOK(nil, message, did), &ok); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{asUTF8(message), asUTF8(did)}, ok.Info["warnings"]); diff != "" || !ok.Result {
			t.Fatal(diff)
		}
		if err := json.Unmarshal(AppendError(nil, message), &rejected); err != nil {
			t.Fatal(err)
		}
		if rejected.Result || rejected.Error.Message != asUTF8(message) {
			t.Fatalf("the error response is %+v, want message %q", rejected, message)
		}
	})
}

func TestAnswersDoNotAllocate(t *testing.T) {
	dst := make([]byte, 0, 1024)
	allocs := testing.AllocsPerRun(100, func() {
		answer := AppendStartAnswer(dst[:0], "042223344\u2028\xff")
		answer.Rule("call", "0567654321", "042223344", 15)
		dst = answer.End("voicemail", true)
		dst = AppendOK(dst[:0], "odd")
		dst = AppendError(dst[:0], "wrong")
	})
	if allocs != 0 {
		t.Errorf("%v allocations, want 0", allocs)
	}
}
