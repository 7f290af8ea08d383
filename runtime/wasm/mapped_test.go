package wasm

import (
	"os"
	"strconv"
	"strings"
	"testing"
)

// mapped is the size of the process's address space, bytes.
func mapped(t *testing.T) int {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Skip("this system does not tell what is mapped")
	}
	pages, err := strconv.Atoi(strings.Fields(string(b))[0])
	if err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}
