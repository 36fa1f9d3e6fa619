package rules

import (
	"slices"
	"unsafe"

	"calltracker/phone"
)

// tables hold what the routers of a Set decide by. All but a little stands in one
// piece of memory, tracker after tracker: a call to one of ten thousand trackers
// waits for whatever it reads, so that is to be little and side by side. Entries
// name each other by their places: without pointers they are no work for the
// garbage collector. Tables are immutable once the Set is compiled.
type tables struct {
	memory    []byte
	schedules []*schedule
	rare      []rareValues
	rules     []Rule
	reasons   []reason
}

// list is where entries stand in the memory, one after the other. They have no
// pointers. The zero value is the empty list.
type list[T any] struct{ at, size uint32 }

// word is where a text stands in the memory. The zero value is the empty text.
type word struct{ at, size uint32 }

// run is some entries of an array, one after the other. The zero value is none.
type run struct{ from, size uint32 }

func part[T any](all []T, r run) []T {
	end := r.from + r.size
	return all[r.from:end:end]
}

// entries of a list must not be changed.
func entries[T any](t *tables, l list[T]) []T {
	if l.size == 0 {
		return nil
	}
	var entry T
	bytes := t.memory[l.at:][:uintptr(l.size)*unsafe.Sizeof(entry)]
	return unsafe.Slice((*T)(unsafe.Pointer(&bytes[0])), l.size) //nolint:gosec // the writer put them there, aligned
}

func (t *tables) text(w word) string {
	if w.size == 0 {
		return ""
	}
	bytes := t.memory[w.at:][:w.size]
	return unsafe.String(&bytes[0], len(bytes)) //nolint:gosec // nobody changes the memory any more
}

// did is a number of a tracker.
type did struct{ e164, country, kind, campaign word }

// number is a DID as it was read from one of its spellings.
func (t *tables) number(d *did, raw string) phone.Number {
	return phone.Number{Raw: raw, E164: t.text(d.e164), Country: t.text(d.country), Type: phone.Type(t.text(d.kind))}
}

// spelling is a place in a tracker's table of the forms in which its DIDs come:
// open addressing, at most half full, as long as a power of two. It is free when
// its text is empty.
type spelling struct {
	text word
	did  uint32 // among the router's
}

// find is nil for a text that is no spelling of any DID of the tracker.
func (r *Router) find(text string) *did {
	places := entries(r.tables, r.spellings)
	if len(places) == 0 {
		return nil
	}
	for at := spellingPlace(text, len(places)); places[at].text.size != 0; at = (at + 1) & (len(places) - 1) {
		if s := &places[at]; r.tables.text(s.text) == text {
			return &entries(r.tables, r.dids)[s.did]
		}
	}
	return nil
}

func spellingPlace(text string, places int) int {
	return int(mix(hashText(hashSeed, text)) & uint64(places-1))
}

// writer fills the tables of a Set, one tracker after the other.
type writer struct {
	*tables
	common map[string]word // texts that many trackers have
	own    map[string]word // texts of the tracker at hand
	spoken []spoken        // of each rule
}

// spoken are the texts of a rule until the memory is whole.
type spoken struct{ number, callerID word }

func newWriter() *writer {
	return &writer{
		tables: &tables{rare: make([]rareValues, 1), rules: []Rule{}},
		common: map[string]word{}, own: map[string]word{},
	}
}

// align is that of all entries.
const align = 8

// put writes entries into the memory.
func put[T any](w *writer, entries []T) list[T] {
	if len(entries) == 0 {
		return list[T]{}
	}
	w.memory = append(w.memory, make([]byte, -len(w.memory)&(align-1))...)
	l := list[T]{uint32(len(w.memory)), uint32(len(entries))}
	size := uintptr(len(entries)) * unsafe.Sizeof(entries[0])
	w.memory = append(w.memory, unsafe.Slice((*byte)(unsafe.Pointer(&entries[0])), size)...) //nolint:gosec // as they are
	return l
}

// add appends entries to an array of the tables.
func add[T any](all *[]T, entries ...T) run {
	r := run{uint32(len(*all)), uint32(len(entries))}
	*all = append(*all, entries...)
	return r
}

// ofMany is a text that many trackers have; equal ones stand in one place.
func (w *writer) ofMany(text string) word { return w.write(w.common, text) }

// ofOne is a text of the tracker at hand; it stands with the rest of it.
func (w *writer) ofOne(text string) word { return w.write(w.own, text) }

func (w *writer) write(known map[string]word, text string) word {
	if text == "" {
		return word{}
	}
	at, there := known[text]
	if !there {
		at = word{uint32(len(w.memory)), uint32(len(text))}
		w.memory = append(w.memory, text...)
		known[text] = at
	}
	return at
}

// list is where words to compare with stand.
func (w *writer) list(texts []string) list[word] {
	words := make([]word, len(texts))
	for i, text := range texts {
		words[i] = w.ofOne(text)
	}
	return put(w, words)
}

// spellings is the table of the forms in which DIDs of the tracker come.
func (w *writer) spellings(forms map[string]*listed) list[spelling] {
	if len(forms) == 0 {
		return list[spelling]{}
	}
	size := 1
	for size < 2*len(forms) {
		size *= 2
	}
	table := make([]spelling, size)
	for _, text := range sortedKeys(forms) {
		at := spellingPlace(text, size)
		for table[at].text.size != 0 {
			at = (at + 1) & (size - 1)
		}
		table[at] = spelling{w.ofOne(text), forms[text].index}
	}
	return put(w, table)
}

// ringing adds rules.
func (w *writer) ringing(rules []Rule) run {
	for _, r := range rules {
		w.spoken = append(w.spoken, spoken{w.ofOne(r.Number), w.ofOne(r.CallerID)})
	}
	return add(&w.rules, rules...)
}

// finish makes the tables ready to decide by, without the room in which they grew.
func (w *writer) finish() {
	t := w.tables
	if size := len(t.memory); size > 0 {
		aligned := make([]uint64, (size+align-1)/align)
		whole := unsafe.Slice((*byte)(unsafe.Pointer(&aligned[0])), size) //nolint:gosec // bytes may stand anywhere
		copy(whole, t.memory)
		t.memory = whole
	}
	for i, s := range w.spoken {
		t.rules[i].Number, t.rules[i].CallerID = t.text(s.number), t.text(s.callerID)
	}
	t.schedules, t.rare, t.rules = slices.Clone(t.schedules), slices.Clone(t.rare), slices.Clone(t.rules)
	t.reasons = slices.Clone(t.reasons)
}
