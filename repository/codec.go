package repository

import (
	"errors"

	"github.com/fxamacker/cbor/v2"
)

// codec holds the CBOR modes of the format: deterministic encoding (RFC 8949,
// 4.2.1), and a decoder that refuses what the format never needs.
type codec struct {
	enc    cbor.EncMode
	dec    cbor.DecMode
	strict cbor.DecMode
}

// format is the one codec; its modes are immutable.
var format = newCodec()

func newCodec() codec {
	enc, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		panic("cbor: " + err.Error())
	}
	options := cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		MaxNestedLevels:   16,
		MaxArrayElements:  1 << 21,
		MaxMapPairs:       1 << 16,
		UTF8:              cbor.UTF8RejectInvalid,
		FieldNameMatching: cbor.FieldNameMatchingCaseSensitive,
	}
	dec, err := options.DecMode()
	if err != nil {
		panic("cbor: " + err.Error())
	}
	options.ExtraReturnErrors = cbor.ExtraDecErrorUnknownField
	strict, err := options.DecMode()
	if err != nil {
		panic("cbor: " + err.Error())
	}
	return codec{enc: enc, dec: dec, strict: strict}
}

// marshal encodes what this package made itself, which cannot fail.
func (c codec) marshal(v any) []byte {
	b, err := c.enc.Marshal(v)
	if err != nil {
		panic("cbor: " + err.Error())
	}
	return b
}

// unmarshal decodes exactly one item; fields it does not know are passed over.
func (c codec) unmarshal(data []byte, v any) error {
	if err := c.dec.Unmarshal(data, v); err != nil {
		return damagef("%v", err)
	}
	return nil
}

// isUnknownField says whether strict decoding failed only because of a field
// this program does not know.
func isUnknownField(err error) bool {
	var unknown *cbor.UnknownFieldError
	return errors.As(err, &unknown)
}
