package operator

// journal is what came to keys since they were last saved, of all keys of a shard in one slice: a slice a key would cost an
// allocation a row. Each key remembers in added 1 + the place of its last entry, 0 for none, and each entry the one before it.
// It is empty again when the last of the keys is saved.
type journal[T any] struct {
	log     []T
	unsaved int // keys that have entries
}

// note appends an entry of the key.
func (j *journal[T]) note(added *int32, entry T) {
	if *added == 0 {
		j.unsaved++
	}
	j.log = append(j.log, entry)
	*added = int32(len(j.log))
}

// noted forgets the entries of the key.
func (j *journal[T]) noted(added *int32) {
	if *added == 0 {
		return
	}
	*added = 0
	if j.unsaved--; j.unsaved == 0 {
		clear(j.log)
		j.log = j.log[:0]
	}
}
