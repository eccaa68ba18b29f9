module github.com/taped-dev/tape/examples/stages/policy

go 1.26.6

require github.com/taped-dev/tape v0.0.0

replace github.com/taped-dev/tape => ../../..
