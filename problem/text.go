package problem

import (
	"strings"
	"unicode"
)

// Clip prepares text from an input for a message: it shortens the text and
// keeps it on one line.
func Clip(text string) string {
	const most = 60
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, text)
	if r := []rune(text); len(r) > most {
		return string(r[:most-3]) + "..."
	}
	return text
}

// Nearest returns the candidate that differs from word in at most two letters,
// or "" if there is none. Upper and lower case are the same.
func Nearest(word string, candidates []string) string {
	const longestWord, mostCandidates = 64, 1000 // beyond that a suggestion costs more than it helps
	if len(word) > longestWord || len(candidates) > mostCandidates {
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

// distance counts the letters to insert, remove, or replace to get from a to b,
// up to limit.
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
