package main

import (
	"cmp"
	"strings"
)

// nearest returns the candidate that a mistyped word most likely meant, or "": one that differs in a
// letter or two, else the longest that the word begins with, as SLUICE_REDIS_URL does (which is three letters from
// SLUICE_REDIS_CA), else one that differs in three.
func nearest(word string, candidates []string) string {
	best, least := "", 1+min(3, 1+len(word)/4)
	for _, c := range candidates {
		if d := distance(strings.ToLower(word), strings.ToLower(c)); d < least {
			best, least = c, d
		}
	}
	if best != "" && least < 3 {
		return best
	}
	begins := ""
	for _, c := range candidates {
		if len(c) > max(4, len(begins)) && strings.HasPrefix(word, c) {
			begins = c
		}
	}
	return cmp.Or(begins, best)
}

// didYouMean returns the end of a sentence about an unknown word.
func didYouMean(word string, candidates []string, prefix, otherwise string) string {
	if n := nearest(word, candidates); n != "" {
		return "did you mean " + prefix + n + "?"
	}
	return otherwise
}

// distance counts the letters to insert, delete or replace to make b of a (Levenshtein).
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := diagonal
			if a[i] != b[j] {
				replace++
			}
			diagonal = row[j+1]
			row[j+1] = min(replace, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
