package rules

import (
	"fmt"
	"strings"
)

// pack lays what the calls of a tracker read side by side: what is of one kind in
// one array, and all texts in one string. Left where compiling happened to put
// it, each call to one of ten thousand trackers would wait for memory some
// thirty times.
func (t *trackerCompiler) pack() {
	r := t.router
	var (
		conditions []*[]condition
		outcomes   []*[]outcome
		words      []*[]string
		steps      []*[]Rule
		texts      []*string
	)
	for i := range r.routes {
		rt := &r.routes[i]
		rt.during = t.sharedIndexes(rt.during)
		conditions, outcomes = append(conditions, &rt.when), append(outcomes, &rt.outcomes)
	}
	adjoin(conditions)
	adjoin(outcomes)
	for i := range r.routes {
		rt := &r.routes[i]
		for j := range rt.when {
			if c := &rt.when[j]; c.of == factDID { // a number of this tracker
				words = append(words, &c.words)
			} else {
				c.words = t.sharedWords(c.words)
			}
		}
		for j := range rt.outcomes {
			out := &rt.outcomes[j]
			if out.twice == nil {
				steps = append(steps, &out.rules)
				continue
			}
			n := len(out.rules)
			out.rules = out.twice[:n:n]
			for k := range out.twice {
				texts = append(texts, &out.twice[k].Number, &out.twice[k].CallerID)
			}
		}
	}
	adjoin(words)
	adjoin(steps)
	r.dids = newDIDIndex(t.dids)
	for i := range r.dids.table {
		texts = append(texts, &r.dids.table[i].text)
	}
	for i := range r.dids.dids {
		d := &r.dids.dids[i]
		texts = append(texts, &d.number.E164, &d.number.Raw, &d.campaign)
	}
	for _, list := range words {
		for i := range *list {
			texts = append(texts, &(*list)[i])
		}
	}
	for _, list := range steps {
		for i := range *list {
			texts = append(texts, &(*list)[i].Number, &(*list)[i].CallerID)
		}
	}
	for i := range r.routes {
		texts = append(texts, &r.routes[i].id)
	}
	adjoinTexts(append(texts, &r.id))
}

// sharedWords is an equal list of another tracker, if there is one: countries and
// prefixes are the same in many, and stay at hand.
func (c *compiler) sharedWords(list []string) []string {
	key := strings.Join(list, "\x00")
	known, ok := c.words[key]
	if !ok {
		known = list
		c.words[key] = known
	}
	return known
}

// sharedIndexes is sharedWords for the schedules of a route.
func (c *compiler) sharedIndexes(list []uint32) []uint32 {
	key := fmt.Sprint(list)
	known, ok := c.indexes[key]
	if !ok {
		known = list
		c.indexes[key] = known
	}
	return known
}

// adjoin moves slices into one array. None of them is nil after it.
func adjoin[T any](lists []*[]T) {
	n := 0
	for _, list := range lists {
		n += len(*list)
	}
	all := make([]T, 0, n)
	for _, list := range lists {
		start := len(all)
		all = append(all, *list...)
		*list = all[start:len(all):len(all)]
	}
}

// adjoinTexts moves texts into one string, equal ones into one place.
func adjoinTexts(texts []*string) {
	var all strings.Builder
	starts := make(map[string]int, len(texts))
	for _, text := range texts {
		if _, known := starts[*text]; !known {
			starts[*text] = all.Len()
			all.WriteString(*text)
		}
	}
	whole := strings.Clone(all.String()) // without the room that the builder had to grow
	for _, text := range texts {
		start := starts[*text]
		*text = whole[start : start+len(*text)]
	}
}

// didIndex finds the DIDs of a tracker by the spellings in which they come. It
// takes fewer steps through memory than a map. The zero value has none.
type didIndex struct {
	table []spelling // open addressing, at most half full; its length is a power of two
	dids  []did
}

// spelling is a place of the table: free when its text is empty.
type spelling struct {
	text string
	did  uint32 // index in dids
}

func newDIDIndex(bySpelling map[string]*did) didIndex {
	var x didIndex
	if len(bySpelling) == 0 {
		return x
	}
	size := 1
	for size < 2*len(bySpelling) {
		size *= 2
	}
	x.table = make([]spelling, size)
	at := map[*did]uint32{}
	for _, text := range keysOf(bySpelling) {
		d := bySpelling[text]
		index, known := at[d]
		if !known {
			index = uint32(len(x.dids))
			at[d] = index
			x.dids = append(x.dids, *d)
		}
		place := x.place(text)
		for x.table[place].text != "" {
			place = (place + 1) & (size - 1)
		}
		x.table[place] = spelling{text, index}
	}
	return x
}

func (x *didIndex) place(text string) int {
	return int(mix(hashText(hashSeed, text)) & uint64(len(x.table)-1))
}

// find is nil for a text that is no spelling of any.
func (x *didIndex) find(text string) *did {
	if len(x.table) == 0 {
		return nil
	}
	for place := x.place(text); x.table[place].text != ""; place = (place + 1) & (len(x.table) - 1) {
		if s := &x.table[place]; s.text == text {
			return &x.dids[s.did]
		}
	}
	return nil
}
