package phone_test

import (
	"testing"

	"calltracker/phone"
)

func BenchmarkParse(b *testing.B) {
	for name, raw := range map[string]string{
		"international": "+971501234567", "national": "0501234567", "double-zero": "00971501234567", "foreign": "+33612345678", "internal": "0026",
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if n := phone.Parse(raw, "AE"); n.Type == "" {
					b.Fatalf("Parse(%q) has no type", raw)
				}
			}
		})
	}
}
