package rules_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"calltracker/config"
	"calltracker/phone"
	"calltracker/rules"
)

// calls is the number of calls in the statistics of the weights, fewCalls in all
// others.
const calls, fewCalls = 100_000, 30_000

// critical is the chi-square value that a fair draw exceeds once in a thousand
// times, by degrees of freedom. The draw is a hash, so a test that passes once
// always passes
// (https://www.itl.nist.gov/div898/handbook/eda/section3/eda3674.htm).
var critical = map[int]float64{1: 10.828, 2: 13.816, 3: 16.266, 23: 49.728}

func chiSquare(t *testing.T, what string, counts []int, expected []float64) {
	t.Helper()
	sum, cells := 0.0, 0
	for i, want := range expected {
		if want == 0 {
			if counts[i] != 0 {
				t.Errorf("%s: got %d calls, want none", what, counts[i])
			}
			continue
		}
		sum += (float64(counts[i]) - want) * (float64(counts[i]) - want) / want
		cells++
	}
	if cells == 1 {
		return // there is only one outcome
	}
	limit, known := critical[cells-1]
	if !known {
		t.Fatalf("%s: no critical value for %d degrees of freedom", what, cells-1)
	}
	if sum > limit {
		t.Errorf("%s: chi-square is %.1f, over %.1f: got %v, expected %.0f", what, sum, limit, counts, expected)
	}
}

// splitting returns a document with a tracker that has the routes.
func splitting(routes ...string) string {
	return `trackers: {t: {keys: {start: open, end: open}, region: AE, numbers: ["042001000"], routes: [` + strings.Join(routes, ", ") + `]}}`
}

// split returns a route that splits its calls by the weights. Share i rings number i.
func split(id, when string, weights ...int) string {
	shares := make([]string, len(weights))
	for i, w := range weights {
		shares[i] = fmt.Sprintf(`{weight: %d, dial: [{number: "%d"}]}`, w, i)
	}
	return fmt.Sprintf(`{id: %s, when: [%s], split: [%s]}`, id, when, strings.Join(shares, ", "))
}

func router(t testing.TB, document string) *rules.Router {
	t.Helper()
	set := mustLoad(t, document, config.YAML)
	r, ok := set.Router(set.Trackers()[0])
	if !ok {
		t.Fatal("no tracker")
	}
	return r
}

// share returns the number that the decision rings first.
func share(d rules.Decision) int { return int(d.Rules[0].Number[0] - '0') }

func callID(i int) string { return fmt.Sprintf("%08x-0000-4000-8000-%012x", i*2654435761, i) }

func TestSplitFollowsItsWeights(t *testing.T) {
	t.Parallel()
	did := phone.Parse("042001000", "AE")
	second := time.Date(2026, time.November, 23, 0, 0, 0, 0, time.UTC)
	const usual = "call ids"
	identities := map[string]func(i int) rules.Facts{
		usual:              func(i int) rules.Facts { return rules.Facts{CallID: callID(i), DID: did} },
		"counted call ids": func(i int) rules.Facts { return rules.Facts{CallID: fmt.Sprint(i), DID: did} },
		"one caller each, in the same second": func(i int) rules.Facts {
			return rules.Facts{Caller: phone.Number{Raw: fmt.Sprintf("+97150%07d", i), E164: fmt.Sprintf("+97150%07d", i)}, DID: did, At: second}
		},
		"one caller, every second": func(i int) rules.Facts {
			return rules.Facts{Caller: phone.Number{Raw: "0501234567", E164: "+971501234567"}, DID: did, At: second.Add(time.Duration(i) * time.Second)}
		},
		"no caller, every second": func(i int) rules.Facts {
			return rules.Facts{DID: did, At: second.Add(time.Duration(i) * time.Second)}
		},
	}
	for _, weights := range [][]int{{70, 30}, {1, 99}, {5, 0, 5}, {0, 1, 0}, {1, 2, 3, 4}} {
		r := router(t, splitting(split("s", "", weights...)))
		for name, facts := range identities {
			if name != usual && !slices.Equal(weights, []int{70, 30}) {
				continue
			}
			t.Run(fmt.Sprint(weights, " ", name), func(t *testing.T) {
				t.Parallel()
				n := fewCalls
				if name == usual {
					n = calls
				}
				counts := make([]int, len(weights))
				for i := range n {
					counts[share(r.Decide(facts(i)))]++
				}
				total := 0
				for _, w := range weights {
					total += w
				}
				expected := make([]float64, len(weights))
				for i, w := range weights {
					expected[i] = float64(n) * float64(w) / float64(total)
				}
				chiSquare(t, "shares", counts, expected)
			})
		}
	}
}

// The shares of a call in two routes are independent, whether the routes belong to the
// same tracker or to two trackers with the same route.
func TestSplitsAreIndependent(t *testing.T) {
	t.Parallel()
	tests := map[string][2]string{
		"two routes":           {splitting(split("a-1", "", 1, 1)), splitting(split("a-2", "", 1, 1))},
		"one id, two trackers": {splitting(split("one", "", 1, 1)), strings.Replace(splitting(split("one", "", 1, 1)), "{t:", "{u:", 1)},
	}
	for name, documents := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b := router(t, documents[0]), router(t, documents[1])
			var table [2][2]int
			var rows, columns [2]float64
			for i := range fewCalls {
				facts := rules.Facts{CallID: callID(i)}
				x, y := share(a.Decide(facts)), share(b.Decide(facts))
				table[x][y]++
				rows[x]++
				columns[y]++
			}
			sum := 0.0
			for x := range 2 {
				for y := range 2 {
					want := rows[x] * columns[y] / fewCalls
					sum += (float64(table[x][y]) - want) * (float64(table[x][y]) - want) / want
				}
			}
			if sum > critical[1] {
				t.Errorf("chi-square is %.1f: %v", sum, table)
			}
		})
	}
}

// A call gets the same share on a retry, in a replay after a restart, and in a replay
// with an edited document.
func TestSameCallSameShare(t *testing.T) {
	t.Parallel()
	document := splitting(split("s", "", 70, 30))
	r := router(t, document)
	again := router(t, document)
	other := router(t, splitting(split("other", "{field: campaign, op: exists}", 1, 1), split("s", "", 70, 30)))
	heavier := router(t, splitting(split("s", "", 90, 10)))
	moved := 0
	for i := range 1_000 {
		at := time.Unix(1.8e9+int64(i), 0)
		for name, facts := range map[string]rules.Facts{
			"by call id":   {CallID: callID(i), At: at},
			"by the rest":  {Caller: phone.Parse("0501234567", "AE"), DID: phone.Parse("042001000", "AE"), At: at},
			"by time only": {At: at},
		} {
			want := share(r.Decide(facts))
			later := facts
			if facts.CallID != "" { // the other facts do not matter
				later.At, later.DID, later.Caller = at.Add(time.Hour), phone.Parse("042001001", "AE"), phone.Parse("0501234568", "AE")
			} else {
				later.At = at.Add(time.Second - time.Nanosecond).UTC()
			}
			for which, router := range map[string]*rules.Router{"the same": r, "compiled again": again, "another route before it": other} {
				if got := share(router.Decide(later)); got != want {
					t.Fatalf("call %d %s, %s: share %d, then %d", i, name, which, want, got)
				}
			}
			if share(heavier.Decide(facts)) != want {
				moved++
			}
		}
	}
	// 20 in 100 calls must move to the heavier share, and no others.
	if moved < 3_000*18/100 || moved > 3_000*22/100 {
		t.Errorf("the new weights moved %d of 3000 calls", moved)
	}
}

func TestSpellingsGetTheSameShare(t *testing.T) {
	r := router(t, splitting(split("s", "", 1, 1, 1, 1)))
	at := time.Unix(1.8e9, 0)
	want := share(r.Decide(rules.Facts{At: at, Caller: phone.Parse("0501234567", "AE"), DID: phone.Parse("042001000", "AE")}))
	for _, caller := range []string{"+971501234567", "00971501234567", "971501234567", `"0501234567"`} {
		for _, did := range []string{"+97142001000", "0097142001000", "97142001000"} {
			if got := share(r.Decide(rules.Facts{At: at, Caller: phone.Parse(caller, "AE"), DID: phone.Parse(did, "AE")})); got != want {
				t.Errorf("%s to %s: got share %d, want %d", caller, did, got, want)
			}
		}
	}
}

func TestRandomOrder(t *testing.T) {
	t.Parallel()
	const numbers, permutations = 4, 24
	dial := make([]string, numbers)
	for i := range dial {
		dial[i] = fmt.Sprintf(`{number: "%d"}`, i)
	}
	list := strings.Join(dial, ", ")
	r := router(t, splitting(fmt.Sprintf(`{id: r, order: random, dial: [%s]}`, list)))
	again := router(t, splitting(fmt.Sprintf(`{id: r, order: random, dial: [%s]}`, list)))
	shares := router(t, splitting(fmt.Sprintf(`{id: r, split: [{weight: 1, order: random, dial: [%s]}, {weight: 1, voicemail: true}]}`, list)))
	order := func(d rules.Decision) string {
		var out strings.Builder
		for _, r := range d.Rules {
			out.WriteString(r.Number)
		}
		return out.String()
	}
	whole, half := map[string]int{}, map[string]int{}
	for i := range fewCalls {
		facts := rules.Facts{CallID: callID(i)}
		drawn := order(r.Decide(facts))
		whole[drawn]++
		if i%10 == 0 && order(again.Decide(facts)) != drawn {
			t.Fatalf("call %d: %s, then %s", i, drawn, order(again.Decide(facts)))
		}
		half[order(shares.Decide(facts))]++
	}
	voicemail := half[""]
	delete(half, "")
	for what, counts := range map[string]map[string]int{"orders": whole, "orders in a share": half} {
		if len(counts) != permutations {
			t.Fatalf("%s: %d of %d: %v", what, len(counts), permutations, counts)
		}
		drawn, list, expected := 0, []int{}, []float64{}
		for _, n := range counts {
			list = append(list, n)
			drawn += n
		}
		for range list {
			expected = append(expected, float64(drawn)/permutations)
		}
		chiSquare(t, what, list, expected)
	}
	chiSquare(t, "shares", []int{fewCalls - voicemail, voicemail}, []float64{fewCalls / 2, fewCalls / 2})
	if got := order(r.Decide(rules.Facts{CallID: "x"}).Turn(3)); got != order(r.Decide(rules.Facts{CallID: "x"})) {
		t.Errorf("Turn changed a random order to %s", got)
	}
}
