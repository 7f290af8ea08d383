module github.com/seed-98920119/tocsin/sdk/go

go 1.24
