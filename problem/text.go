package problem

import (
	"strings"
	"unicode"
)

// Clip shortens text from an input to 60 characters and replaces control characters by
// spaces, for use in a message.
func Clip(text string) string {
	const maxLength = 60
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, text)
	if r := []rune(text); len(r) > maxLength {
		return string(r[:maxLength-3]) + "..."
	}
	return text
}

// Nearest returns the candidate that differs from word in at most two letters,
// or "" if there is none. It ignores case.
func Nearest(word string, candidates []string) string {
	const maxWord, maxCandidates = 64, 1000 // limits the cost of a suggestion
	if len(word) > maxWord || len(candidates) > maxCandidates {
		return ""
	}
	best, least := "", 3
	for _, c := range candidates {
		if d := distance(strings.ToLower(word), strings.ToLower(c), least); d < least && d < len(c) {
			best, least = c, d
		}
	}
	return best
}

// distance returns the number of letters to insert, remove, or replace to turn a into b,
// or limit if the number is larger.
func distance(a, b string, limit int) int {
	if len(a)-len(b) >= limit || len(b)-len(a) >= limit {
		return limit
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return min(row[len(b)], limit)
}
