package rules

import "slices"

// draw makes the random choices of a route: the share of a call, and a random order.
type draw struct {
	salt    uint64   // different for each route, so that their splits are independent
	weights []uint64 // of the shares, each with those before it; nil without a split
}

// number returns a pseudo-random number that depends only on what identifies the
// call, so that a retry and a replay of the call get the same one.
func (d *draw) number(f *Facts) uint64 {
	h := d.salt
	if f.CallID != "" {
		return mix(hashText(h, f.CallID))
	}
	h = hashText(h, f.Caller.Key())
	h = hashText(h, f.DID.Key())
	for second, i := uint64(f.At.Unix()), 0; i < 8; i++ {
		h = hashByte(h, byte(second>>(8*i)))
	}
	return mix(h)
}

// share returns the index of the share that a number falls into.
func (d *draw) share(number uint64) int {
	if len(d.weights) == 0 {
		return 0
	}
	point := number % d.weights[len(d.weights)-1]
	for i, end := range d.weights {
		if point < end {
			return i
		}
	}
	return 0 // not reached: point is less than the last end
}

// The hash is FNV-1a (http://www.isthe.com/chongo/tech/comp/fnv/).
const hashSeed, hashPrime = uint64(14695981039346656037), uint64(1099511628211)

func hashByte(h uint64, b byte) uint64 { return (h ^ uint64(b)) * hashPrime }

func hashText(h uint64, s string) uint64 {
	for i := range len(s) {
		h = hashByte(h, s[i])
	}
	return hashByte(h, 0xff) // so that "ab"+"c" differs from "a"+"bc"
}

// mix spreads every bit over all others, because the low bits of FNV are poor. It is
// the finalizer of splitmix64 (https://prng.di.unimi.it/splitmix64.c).
func mix(h uint64) uint64 {
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}

// shuffled returns a copy in the order that the seed decides (Fisher-Yates).
func shuffled(rules []Rule, seed uint64) []Rule {
	out := slices.Clone(rules)
	for i := len(out) - 1; i > 0; i-- {
		seed = mix(seed + 0x9e3779b97f4a7c15)
		j := seed % uint64(i+1)
		out[i], out[j] = out[j], out[i]
	}
	return out
}
