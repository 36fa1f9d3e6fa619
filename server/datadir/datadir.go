// Package datadir names the files of the data directory, and reads and writes the
// small ones: generated secrets and the last good configuration.
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

// Files and directories in the data directory, and sizes of generated secrets.
const (
	AdminTokenFile = "admin-token"
	SecretKeyFile  = "secret.key"
	LastGoodFile   = "last-good.json"
	SpoolFolder    = "spool"

	RecordingsFolder = "recordings"

	SecretKeyBytes  = 32
	AdminTokenBytes = 24
)

// ReadOrGenerate returns the text in a file. If the file does not exist, it creates
// one with size random bytes in base64, and generated is true.
func ReadOrGenerate(path string, size int) (text string, generated bool, err error) {
	content, err := os.ReadFile(path)
	if err == nil {
		text = strings.TrimSpace(string(content))
		if text == "" {
			return "", false, fmt.Errorf("%s is empty: delete it to generate a new one", path)
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

// ReadSecretKey returns the key that encrypts stored secrets from a file. If the file
// does not exist, it generates a key.
func ReadSecretKey(path string) ([]byte, error) {
	text, _, err := ReadOrGenerate(path, SecretKeyBytes)
	if err != nil {
		return nil, err
	}
	key, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(key) != SecretKeyBytes {
		return nil, fmt.Errorf("%s does not contain %d bytes in base64: restore it from a backup; a new key cannot decrypt stored secrets", path, SecretKeyBytes)
	}
	return key, nil
}

// writeDurably replaces a file atomically and durably: after a crash, it has either
// the old content or the new one. Only the owner may read it.
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

// syncFolder flushes a directory, so that a rename in it survives a power failure.
func syncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// LastGood is the file with the last good configuration, which a server reads if it
// starts without its database.
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
		return config.LastGood{}, fmt.Errorf("%s is damaged (%w): restore a backup, or delete it if the database is available", f.Path, err)
	}
	return l, nil
}
