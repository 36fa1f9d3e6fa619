package phone_test

import (
	"bufio"
	"os"
	"strconv"
	"strings"
	"testing"

	"calltracker/phone"
)

// TestCorpus parses every line of testdata/corpus.tsv: the quoted text, the region,
// and the expected E.164 form, country and type. The numbers are invented.
func TestCorpus(t *testing.T) {
	file, err := os.Open("testdata/corpus.tsv")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	count, countries := 0, map[string]bool{}
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		fields := strings.Split(lines.Text(), "\t")
		if len(fields) != 5 {
			t.Fatalf("line %d has %d fields, want 5", count+1, len(fields))
		}
		raw, err := strconv.Unquote(fields[0])
		if err != nil {
			t.Fatal(err)
		}
		count++
		countries[fields[3]] = true
		want := phone.Number{Raw: raw, E164: fields[2], Country: fields[3], Type: phone.Type(fields[4])}
		if got := phone.Parse(raw, fields[1]); got.E164 != want.E164 || got.Country != want.Country || got.Type != want.Type || got.Raw != raw {
			t.Errorf("Parse(%q, %q) = %q %s %s, want %q %s %s", raw, fields[1], got.E164, got.Country, got.Type, want.E164, want.Country, want.Type)
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	const minimum = 300
	if count < minimum {
		t.Errorf("the corpus has %d numbers, want at least %d", count, minimum)
	}
	t.Logf("%d numbers from %d countries", count, len(countries))
}
