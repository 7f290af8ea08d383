package event

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
)

// ID identifies a row for ever. An event of a source: 64 bits of SHA-256 over its partition, then its offset; a derived
// row: 128 bits of SHA-256 over what it was made from (a result id). Both are the same after any crash and replay.
type ID [16]byte

var idText = base32.StdEncoding.WithPadding(base32.NoPadding)

// String is the id in base32, 26 characters.
func (id ID) String() string { return idText.EncodeToString(id[:]) }

// PartitionSeed is the part of an event's id that its partition contributes.
func PartitionSeed(partition string) (seed [8]byte) {
	h := sha256.Sum256([]byte(partition))
	copy(seed[:], h[:])
	return seed
}

// EventID joins a partition's seed and an offset.
func EventID(seed [8]byte, off int64) (id ID) {
	copy(id[:], seed[:])
	binary.BigEndian.PutUint64(id[8:], uint64(off))
	return id
}

// Hash makes a result id: SHA-256 over the parts, each preceded by its length, cut to 128 bits.
func Hash(parts ...[]byte) (id ID) {
	var scratch [256]byte
	return HashParts(AppendParts(scratch[:0], parts...))
}

// AppendParts appends parts as Hash takes them.
func AppendParts(dst []byte, parts ...[]byte) []byte {
	for _, p := range parts {
		dst = append(binary.AppendUvarint(dst, uint64(len(p))), p...)
	}
	return dst
}

// HashParts is Hash of what AppendParts wrote.
func HashParts(parts []byte) (id ID) {
	h := sha256.Sum256(parts)
	copy(id[:], h[:])
	return id
}
