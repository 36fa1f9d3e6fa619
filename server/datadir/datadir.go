package datadir

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"calltracker/config"
	"calltracker/storage"
)

// Files of the data directory.
const (
	AdminTokenFile = "admin-token"
	SecretKeyFile  = "secret.key"
	LastGoodFile   = "last-good.json"
	SpoolFolder    = "spool"

	RecordingsFolder = "recordings"

	SecretKeyBytes  = 32
	AdminTokenBytes = 24
)

// generated is the content of a file of the data directory; it is made of
// random bytes when there is no such file yet.
func ReadOrGenerate(path string, size int) (text string, fresh bool, err error) {
	content, err := os.ReadFile(path)
	if err == nil {
		text = strings.TrimSpace(string(content))
		if text == "" {
			return "", false, fmt.Errorf("%s is empty; remove it to have a new one generated", path)
		}
		return text, false, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", false, err
	}
	random := make([]byte, size)
	rand.Read(random) // never fails
	text = base64.StdEncoding.EncodeToString(random)
	if err := writeDurably(path, []byte(text+"\n")); err != nil {
		return "", false, err
	}
	return text, true, nil
}

// secretKey decodes the key that encrypts stored secrets.
func ReadSecretKey(path string) ([]byte, error) {
	text, _, err := ReadOrGenerate(path, SecretKeyBytes)
	if err != nil {
		return nil, err
	}
	key, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(key) != SecretKeyBytes {
		return nil, fmt.Errorf("%s does not hold base64 of %d bytes", path, SecretKeyBytes)
	}
	return key, nil
}

// writeDurably replaces a file at once and for good: after a crash there is the
// old content or the new, never a part. Only the owner may read it.
func writeDurably(path string, content []byte) error {
	folder := filepath.Dir(path)
	temporary, err := os.CreateTemp(folder, "."+filepath.Base(path)+"-") // mode 0600
	if err != nil {
		return err
	}
	_, err = temporary.Write(content)
	err = errors.Join(err, temporary.Sync(), temporary.Close())
	if err == nil {
		err = os.Rename(temporary.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temporary.Name()))
	}
	return syncFolder(folder)
}

// syncFolder makes a rename in it survive a power failure.
func syncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// lastGood is the file that a start without a database reads.
type LastGood struct{ Path string }

// Save replaces the file.
func (f LastGood) Save(l config.LastGood) error {
	content, err := json.Marshal(l)
	if err != nil {
		return err
	}
	return writeDurably(f.Path, content)
}

// Load reads the file. It returns storage.ErrNotFound if the file does not exist.
func (f LastGood) Load() (config.LastGood, error) {
	content, err := os.ReadFile(f.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return config.LastGood{}, fmt.Errorf("%s: %w", f.Path, storage.ErrNotFound)
	}
	if err != nil {
		return config.LastGood{}, err
	}
	var l config.LastGood
	if err := json.Unmarshal(content, &l); err != nil {
		return config.LastGood{}, fmt.Errorf("%s: %w", f.Path, err)
	}
	return l, nil
}
