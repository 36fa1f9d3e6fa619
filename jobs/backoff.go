package jobs

import (
	"cmp"
	"math/rand/v2"
	"time"
)

// Backoff is a series of pauses between attempts. The first pause is First, and each
// one doubles, up to Longest. Up to half of the pause is added at random, so that
// attempts that failed together do not repeat together.
type Backoff struct {
	First   time.Duration  // 0 means 1 second
	Longest time.Duration  // without the random part; 0 means 1 hour
	Random  func() float64 // in [0, 1); nil means math/rand/v2
}

// Pause returns the pause after a number of consecutive failures. It is the first pause
// if failures is less than 2.
func (b Backoff) Pause(failures int) time.Duration {
	first, longest := cmp.Or(b.First, time.Second), cmp.Or(b.Longest, time.Hour)
	pause := first
	for n := 1; n < failures && pause < longest; n++ {
		pause *= 2
	}
	pause = min(pause, longest)
	random := rand.Float64
	if b.Random != nil {
		random = b.Random
	}
	return pause + time.Duration(random()*float64(pause)/2)
}
