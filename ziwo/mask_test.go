package ziwo

import (
	"encoding/json"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestMaskSecretsJSON(t *testing.T) {
	for _, tc := range []struct{ name, body, want string }{
		{"no secrets", `{"b":1.50,"a":[1e3,-0,"x\u00e9\/"],"status":null}`, `{"b":1.50,"a":[1e3,-0,"x\u00e9\/"],"status":null}`},
		{"white space is unchanged", "{\n  \"password\" :\t\"x\",\r\n  \"b\": [ ]\n}", "{\n  \"password\" :\t\"***\",\r\n  \"b\": [ ]\n}"},
		{"every name", `{"ccPassword":"x","password":"x","access_token":"x","api_key":"x","apiKey":"x","token":"x","secret":"x","authorization":"x"}`,
			`{"ccPassword":"***","password":"***","access_token":"***","api_key":"***","apiKey":"***","token":"***","secret":"***","authorization":"***"}`},
		{"any spelling", `{"CCPASSWORD":"x","Access-Token":"x","X-API-Key":"x","startRequestAPIKey":"x","clientSecret":"x","db_passwd":"x","p\u0061ssword":"x"}`,
			`{"CCPASSWORD":"***","Access-Token":"***","X-API-Key":"***","startRequestAPIKey":"***","clientSecret":"***","db_passwd":"***","p\u0061ssword":"***"}`},
		{"any type", `{"token":12,"a":{"secret":{"deep":["x",{"y":"}"}]}},"password":[1,"]"],"apiKey":null,"z":true}`,
			`{"token":"***","a":{"secret":"***"},"password":"***","apiKey":"***","z":true}`},
		{"any depth", `[[{"a":[{"ccPassword":"x","ccLogin":"0026"}]}]]`, `[[{"a":[{"ccPassword":"***","ccLogin":"0026"}]}]]`},
		{"repeated name", `{"token":"x","token":"y"}`, `{"token":"***","token":"***"}`},
		{"similar names that are not secret", `{"secretary":"Huda","tokenizer":1,"passage":2,"author":"x","key":3}`, `{"secretary":"Huda","tokenizer":1,"passage":2,"author":"x","key":3}`},
		{"secret names as values", `["password","token"]`, `["password","token"]`},
		{"JSON in a string", `{"content":"{\"ccPassword\": \"x\", \"a\": 1}"}`, `{"content":"{\"ccPassword\": \"***\", \"a\": 1}"}`},
		{"JSON in JSON in a string", `"{\"a\":\"{\\\"token\\\":5}\"}"`, `"{\"a\":\"{\\\"token\\\":\\\"***\\\"}\"}"`},
		{"JSON in a list in a string, four deep", `["[\"[\\\"[\\\\\\\"{\\\\\\\\\\\\\\\"token\\\\\\\\\\\\\\\":\\\\\\\\\\\\\\\"x\\\\\\\\\\\\\\\"}\\\\\\\"]\\\"]\"]"]`,
			`["[\"[\\\"[\\\\\\\"{\\\\\\\\\\\\\\\"token\\\\\\\\\\\\\\\":\\\\\\\\\\\\\\\"***\\\\\\\\\\\\\\\"}\\\\\\\"]\\\"]\"]"]`},
		{"a URL in a string", `{"url":"https://pbx.example.org/x?access_token=x&b=1"}`, `{"url":"https://pbx.example.org/x?access_token=***&b=1"}`},
		{"a header in a string", `{"log":"GET /\nAuthorization: Basic x y\nHost: z"}`, `{"log":"GET /\nAuthorization: ***\nHost: z"}`},
		{"a form in a string", `{"sent":"a=1&p%61ssword=x&b=%7B%22token%22%3A%22x%22%7D"}`, `{"sent":"a=1&p%61ssword=***&b=%7B%22token%22%3A%22%2A%2A%2A%22%7D"}`},
		{"a secret in a name", `{"password=x":1}`, `{"password=***":"***"}`},
		{"byte order mark and invalid UTF-8", "\ufeff{\"a\":\"\xff\",\"token\":\"\xfe\"}", "{\"a\":\"\ufffd\",\"token\":\"***\"}"},
		{"a scalar", `42`, `42`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := string(MaskSecrets([]byte(tc.body)))
			if got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
			if !json.Valid([]byte(got)) {
				t.Errorf("%s is not valid JSON", got)
			}
		})
	}
}

func TestMaskSecretsText(t *testing.T) {
	for _, tc := range []struct{ name, body, want string }{
		{"empty", "", ""},
		{"plain text", "hello <b>\"world\"</b>\x00\xff", "hello <b>\"world\"</b>\x00\ufffd"},
		{"form", "didCalled=042223344&ccPassword=x,y;z&a=%zz", "didCalled=042223344&ccPassword=***&a=%zz"},
		{"form with an escaped name", "&a=b&p%61ss%77ord=x&c=d", "&a=b&p%61ss%77ord=***&c=d"},
		{"form with brackets", "agent[ccLogin]=0026&agent[ccPassword]=x", "agent[ccLogin]=0026&agent[ccPassword]=***"},
		{"form with JSON in it", "action=create&content=%7B%22ccPassword%22%3A%22x%22%7D", "action=create&content=%7B%22ccPassword%22%3A%22%2A%2A%2A%22%7D"},
		{"form with JSON and a broken escape", "content=%7B%22token%22%3A%22x%22%2C%zz", "content=%7B%22token%22%3A%22%2A%2A%2A%22%2C%25zz"},
		{"truncated JSON", `{"callID":"c","password":"x","agent":{"ccLogin":"0026"`, `{"callID":"c","password":"***","agent":{"ccLogin":"0026"`},
		{"JSON truncated in the secret", `{"callID":"c","password":"xyz`, `{"callID":"c","password":"***`},
		{"JSON with escapes in the secret", `{"password":"x\"y\\","a":1,}`, `{"password":"***","a":1,}`},
		{"JSON with a number", `{"token":12345,"a":1,}`, `{"token":***,"a":1,}`},
		{"JSON with an object", `{"a":1,"secret":{"b":"x"},}`, `{"a":1,"secret":***`},
		{"JSON over lines", "{\"password\"\n:\n\"x\",}", "{\"password\"\n:\n\"***\",}"},
		{"JSON in a string", `{"content":"{\"password\":\"x\\\"y\",\"a\":1}",}`, `{"content":"{\"password\":\"***\",\"a\":1}",}`},
		{"typographic quotes", "{“password”: “x \"y\"”, “a”: 1}", "{“password”: “***”, “a”: 1}"},
		{"single quotes", `{'password': 'x', 'a': 1}`, `{'password': '***', 'a': 1}`},
		{"arrow", `'password' => 'x'`, `'password' => '***'`},
		{"header", "X-API-Key: x y, z\r\nHost: h", "X-API-Key: ***\r\nHost: h"},
		{"no value", `password=&a="token":"" password`, `password=&a="token":"" password`},
		{"multipart", "--b\r\nContent-Disposition: form-data; name=\"api_key\"\r\nContent-Type: text/plain\r\n\r\nx\r\ny\r\n--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--b--",
			"--b\r\nContent-Disposition: form-data; name=\"api_key\"\r\nContent-Type: text/plain\r\n\r\n***\n--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--b--"},
		{"multipart with line feeds", "--b\nContent-Disposition: form-data; name=token\n\nx\n--b--", "--b\nContent-Disposition: form-data; name=token\n\n***\n--b--"},
		{"multipart without an end", "--b\r\nContent-Disposition: form-data; name=\"token\"\r\n\r\nx", "--b\r\nContent-Disposition: form-data; name=\"token\"\r\n\r\n***"},
		{"truncated multipart", "--b\r\nContent-Disposition: form-data; name=\"token\"\r\nx", "--b\r\nContent-Disposition: form-data; name=\"token***"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got string
			if err := json.Unmarshal(MaskSecrets([]byte(tc.body)), &got); err != nil {
				t.Fatal(err)
			}
			if got != tc.want {
				t.Errorf("got  %q\nwant %q", got, tc.want)
			}
		})
	}
}

// TestMaskSecretsLeavesTheRest checks that JSON without secret names is unchanged.
func TestMaskSecretsLeavesTheRest(t *testing.T) {
	name := rapid.SampledFrom([]string{"a", "callID", "status", "id", "агент", "x\n\"y\""})
	var anyValue func(depth int) *rapid.Generator[any]
	anyValue = func(depth int) *rapid.Generator[any] {
		scalar := rapid.OneOf(
			rapid.Map(rapid.Float64(), func(f float64) any { return f }),
			rapid.Map(rapid.StringMatching(`[a-z{}\[\]":,&=\\ ]{0,12}`), func(s string) any { return s }),
			rapid.Just[any](nil), rapid.Just[any](true),
		)
		if depth == 0 {
			return scalar
		}
		return rapid.OneOf(scalar,
			rapid.Map(rapid.SliceOfN(anyValue(depth-1), 0, 4), func(l []any) any { return l }),
			rapid.Map(rapid.MapOfN(name, anyValue(depth-1), 0, 4), func(m map[string]any) any { return m }),
		)
	}
	rapid.Check(t, func(t *rapid.T) {
		doc, err := json.MarshalIndent(anyValue(3).Draw(t, "doc"), "", " ")
		if err != nil {
			t.Fatal(err)
		}
		if got := MaskSecrets(doc); string(got) != string(doc) {
			t.Fatalf("got %s\nwant %s", got, doc)
		}
	})
}

func TestMaskSecretsHostile(t *testing.T) {
	const size = 1 << 18
	for _, piece := range []string{
		`password `, `password: `, `name="password" `, "name=password\n", `"password":"`, `\"password\":\"`, `password'`, `“token”:“`, `token\`,
		`{"token":`, `[`, `"`, `\`, `"\u0061",`, `&password=`, `a=&`, `%`, "a=%7B%22", "\xff", " ", "\n",
	} {
		body := strings.Repeat(piece, size/len(piece))
		if got := MaskSecrets([]byte(body)); !json.Valid(got) {
			t.Errorf("MaskSecrets of repeated %q is not valid JSON", piece)
		}
	}
}

// secretTemplates are documents with a secret. NAME and SECRET are placeholders.
var secretTemplates = []string{
	`{"NAME":"SECRET"}`, `{"a":[{"b":1,"NAME": "SECRET"}],"z":2}`, `{"NAME":{"a":["SECRET"]}}`,
	`{"a":"{\"NAME\":\"SECRET\"}"}`, `{"a":"{\"b\":\"{\\\"NAME\\\":\\\"SECRET\\\"}\"}"}`,
	`{"NAME":"SECRET",`, `{"NAME": "SECRET`, `{"NAME":SECRET,"a":1`, `{“NAME”: “SECRET”}`, `{'NAME': 'SECRET'}`,
	`NAME=SECRET&a=1`, `a=1&NAME=SECRET`, `a[NAME]=SECRET`, `a=%7B%22NAME%22%3A%22SECRET%22%7D`,
	"NAME: SECRET\r\n", "NAME: Bearer SECRET", `"https://pbx.example.org/?NAME=SECRET"`,
	"--b\r\nContent-Disposition: form-data; name=\"NAME\"\r\n\r\nSECRET\r\n--b--\r\n",
}

func FuzzMaskSecrets(f *testing.F) {
	for i := range secretTemplates {
		f.Add("", "", uint8(i), uint8(i))
	}
	f.Add(`{"a":1}`, `{"b":2}`, uint8(0), uint8(0))
	f.Add("didCalled=1&", "&b=2", uint8(10), uint8(1))
	f.Add("a: b\n", "\n--c", uint8(14), uint8(2))
	names := []string{"ccPassword", "password", "access_token", "api_key", "apiKey", "token", "secret", "Authorization"}
	f.Fuzz(func(t *testing.T, before, after string, shape, name uint8) {
		if got := MaskSecrets([]byte(before)); !json.Valid(got) {
			t.Fatalf("%q is not valid JSON", got)
		}
		const secret = "hunter2Hunter2"
		doc := strings.NewReplacer("NAME", names[int(name)%len(names)], "SECRET", secret).Replace(secretTemplates[int(shape)%len(secretTemplates)])
		// The line break separates doc from the text before it.
		for _, body := range []string{doc, doc + after, before + "\n" + doc} {
			got := MaskSecrets([]byte(body))
			if !json.Valid(got) {
				t.Fatalf("%q is not valid JSON", got)
			}
			if strings.Contains(string(got), secret) {
				t.Fatalf("%q contains the secret in %q", got, body)
			}
		}
	})
}
