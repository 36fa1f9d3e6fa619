package endcall

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"calltracker/storage"
)

// spooledVersion is the version of spooled records. A record is a line of JSON followed by
// the body as received. An operator can read it, and can cut out the body and send it
// again.
//
// Version 1 encodes storage.ReceivedCDR by field name. Changing the meaning of a field,
// or removing a field, requires a new version.
const spooledVersion = 1

type spooledHeader struct {
	Version int
	Report  storage.ReceivedCDR // Raw is nil
}

func encodeSpooled(r storage.ReceivedCDR) ([]byte, error) {
	raw := r.Raw
	r.Raw = nil
	header, err := json.Marshal(spooledHeader{Version: spooledVersion, Report: r})
	if err != nil {
		return nil, fmt.Errorf("encode record: %w", err)
	}
	return append(append(header, '\n'), raw...), nil
}

// decodeSpooled decodes a spooled record. Unknown fields are an error, because a
// newer version of the program wrote them and dropping them would lose data.
func decodeSpooled(record []byte) (storage.ReceivedCDR, error) {
	header, raw, found := bytes.Cut(record, []byte("\n"))
	if !found {
		return storage.ReceivedCDR{}, errors.New("decode record: missing body")
	}
	var version struct{ Version int }
	if err := json.Unmarshal(header, &version); err != nil {
		return storage.ReceivedCDR{}, fmt.Errorf("decode record: %w", err)
	}
	if version.Version != spooledVersion {
		return storage.ReceivedCDR{}, fmt.Errorf("decode record: unsupported version %d; want %d", version.Version, spooledVersion)
	}
	var decoded spooledHeader
	decoder := json.NewDecoder(bytes.NewReader(header))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&decoded); err != nil {
		return storage.ReceivedCDR{}, fmt.Errorf("decode record: %w", err)
	}
	decoded.Report.Raw = raw
	return decoded.Report, nil
}
