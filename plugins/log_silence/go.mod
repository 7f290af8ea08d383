module log_silence

go 1.24

require github.com/seed-98920119/tocsin/sdk/go v0.0.0

replace github.com/seed-98920119/tocsin/sdk/go => ../../sdk/go
