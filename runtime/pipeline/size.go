package pipeline

import (
	"fmt"
	"strconv"
	"strings"
)

// parseSize reads a number of bytes like 1MiB, 500kB or 4096, from least to most; what names it in errors.
func parseSize(what, s string, least, most int64) (int64, error) {
	digits := strings.TrimRight(s, "kKMmGgiIbB ")
	unit, ok := map[string]int64{
		"": 1, "b": 1, "kb": 1000, "kib": 1 << 10, "mb": 1000 * 1000, "mib": 1 << 20, "gb": 1000 * 1000 * 1000, "gib": 1 << 30,
	}[strings.ToLower(strings.TrimSpace(s[len(digits):]))]
	n, err := strconv.ParseInt(digits, 10, 64)
	if !ok || err != nil {
		return 0, fmt.Errorf("%s: %q is no size; write it like 256KiB or 1MiB", what, s)
	}
	if n > most/unit || n*unit < least {
		return 0, fmt.Errorf("%s: %s is not between %s and %s", what, s, sizeText(least), sizeText(most))
	}
	return n * unit, nil
}

func sizeText(n int64) string {
	for _, u := range []struct {
		name  string
		shift int
	}{{"GiB", 30}, {"MiB", 20}, {"KiB", 10}} {
		if n>>u.shift > 0 && n>>u.shift<<u.shift == n {
			return fmt.Sprint(n>>u.shift, u.name)
		}
	}
	return fmt.Sprint(n, "B")
}
