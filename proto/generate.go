// Package proto holds the protocols that programs speak with Sombra, as
// protocol buffer definitions. The Go code generated from each lies beside it.
//
// To generate it again, install protobuf-compiler (protoc 3.15 or later) and
//
//	go install google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12
//	go install google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.2
//
// then run go generate in this directory.
package proto

//go:generate protoc --proto_path=. --go_out=.. --go_opt=module=github.com/sombra-backup/sombra --go-grpc_out=.. --go-grpc_opt=module=github.com/sombra-backup/sombra sombra/writer/v1/writer.proto
