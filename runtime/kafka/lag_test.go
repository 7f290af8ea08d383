package kafka

import "testing"

// While blocks are taken, a partition's lag is what it has less what was handed over.
func TestLags(t *testing.T) {
	f := newFake(t, 1, []string{"logins"})
	const n = 3 * blockLines
	for range n {
		f.put(record("logins", 0, "x"))
	}
	f.in.UntilEnd = true
	reader := f.open(nil)
	if lags := reader.Lags(); len(lags) > 1 {
		t.Fatalf("%v", lags)
	}
	taken, blocks := 0, 0
	for taken < n {
		b, err := next(t, reader)
		if err != nil {
			t.Fatal(err)
		}
		if taken += len(b.Lines); len(b.Lines) > 0 {
			blocks++
			if lags := reader.Lags(); len(lags) != 1 || lags[0] != (Lag{"logins", 0, int64(n - taken)}) {
				t.Fatalf("%d records are taken: %v", taken, lags)
			}
		}
		b.Release()
	}
	if blocks < 2 {
		t.Fatalf("%d blocks", blocks)
	}
}
