// Package event turns bytes into rows: blocks of lines into columns, in one pass over each line, of just the fields that
// somebody reads.
//
// It promises to accept exactly the lines that encoding/json calls a JSON object (nested up to 512 deep) and to give the
// same values; to allocate nothing an event once its batches have grown; and that identities and keys are the same on
// every machine and after every restart.
//
// Read value.go (a cell), batch.go (columns), scan.go (the pass), time.go, key.go. A login of 220 bytes with two fields
// wanted costs about 250 ns.
package event
