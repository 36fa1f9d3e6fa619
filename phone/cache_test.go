package phone_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"calltracker/phone"
)

// TestCacheEqualsParse parses the same numbers repeatedly in several goroutines and
// compares each result with that of Parse.
func TestCacheEqualsParse(t *testing.T) {
	cache := phone.NewCache()
	texts := []string{"", "0501234567", "+971501234567", "+971 50 123 4567", "00971501234567", "042000100", "0033 6 12 34 56 78", "1234", "anonymous",
		"agent-0029", strings.Repeat("1", 40), strings.Repeat("+9715012345", 4), strings.Repeat("x", 5000), "\x00\xff", "٠٥٠١٢٣٤٥٦٧"}
	for i := range 2000 {
		texts = append(texts, fmt.Sprintf("05%08d", i*7919), fmt.Sprintf("+336%08d", i*104729%100_000_000))
	}
	regions := []string{"AE", "FR", ""}
	want := make(map[[2]string]phone.Number)
	for _, text := range texts {
		for _, region := range regions {
			want[[2]string{text, region}] = phone.Parse(text, region)
		}
	}
	var parsers sync.WaitGroup
	for seed := range uint64(4) {
		parsers.Go(func() {
			random := rand.New(rand.NewPCG(seed, 1))
			for range 20_000 {
				text, region := texts[random.IntN(len(texts))], regions[random.IntN(len(regions))]
				if got := cache.Parse(text, region); got != want[[2]string{text, region}] {
					t.Errorf("Parse(%q, %q) = %+v, want %+v", text, region, got, want[[2]string{text, region}])
					return
				}
			}
		})
	}
	parsers.Wait()
}

func TestCacheAvoidsParsing(t *testing.T) {
	cache := phone.NewCache()
	cache.Parse("050 123 45 67", "AE")
	if n := testing.AllocsPerRun(100, func() { cache.Parse("050 123 45 67", "AE") }); n > 1 {
		t.Errorf("%v allocations for a cached number, want at most 1", n)
	}
}
