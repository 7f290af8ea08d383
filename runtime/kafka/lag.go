package kafka

// Lag is how many records of a partition have not been handed over, as far as the last fetch of it knows.
type Lag struct {
	Topic     string
	Partition int32
	Records   int64
}

// Lags are those of all partitions of which something was fetched. Marks of transactions count as records.
func (r *Reader) Lags() (out []Lag) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for topic, parts := range r.parts {
		for num, p := range parts {
			if p.high > 0 {
				out = append(out, Lag{topic, num, max(p.high-p.next, 0) + int64(len(p.queue))})
			}
		}
	}
	return out
}
