// Go's HPACK, to compare ours with. A record is: the table size that holds from here on (or none), the fields, the block.
//
//	hpack-peer encode SEED COUNT   writes records of random fields, encoded here
//	hpack-peer decode              reads records, decodes each block and compares; prints how many were equal
package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand"
	"os"
	"strconv"

	"golang.org/x/net/http2/hpack"
)

const noChange = 0xffffffff

func main() {
	if len(os.Args) == 4 && os.Args[1] == "encode" {
		seed, _ := strconv.ParseInt(os.Args[2], 10, 64)
		count, _ := strconv.Atoi(os.Args[3])
		encode(rand.New(rand.NewSource(seed)), count)
		return
	}
	if len(os.Args) == 2 && os.Args[1] == "decode" {
		decode()
		return
	}
	fail("usage: hpack-peer encode SEED COUNT | decode")
}

func fail(text string) {
	fmt.Fprintln(os.Stderr, text)
	os.Exit(1)
}

func encode(random *rand.Rand, count int) {
	out := bufio.NewWriterSize(os.Stdout, 1<<16)
	defer out.Flush()
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	var known []hpack.HeaderField
	for i := 0; i < count; i++ {
		size := uint32(noChange)
		if random.Intn(50) == 0 {
			size = uint32(random.Intn(4097))
			encoder.SetMaxDynamicTableSize(size)
		}
		var fields []hpack.HeaderField
		for n := random.Intn(10); n > 0; n-- {
			if len(known) > 0 && random.Intn(2) == 0 {
				fields = append(fields, known[random.Intn(len(known))])
				continue
			}
			field := hpack.HeaderField{Name: name(random), Value: text(random, 1+random.Intn(1<<random.Intn(9))), Sensitive: random.Intn(10) == 0}
			if len(known) < 200 {
				known = append(known, field)
			} else {
				known[random.Intn(len(known))] = field
			}
			fields = append(fields, field)
		}
		block.Reset()
		for _, field := range fields {
			if err := encoder.WriteField(field); err != nil {
				fail(err.Error())
			}
		}
		number(out, size)
		number(out, uint32(len(fields)))
		for _, field := range fields {
			piece(out, []byte(field.Name))
			piece(out, []byte(field.Value))
		}
		piece(out, block.Bytes())
	}
}

var names = []string{":path", ":method", ":status", ":authority", "accept", "user-agent", "content-type", "date", "x-request-id"}

func name(random *rand.Rand) string {
	if random.Intn(2) == 0 {
		return names[random.Intn(len(names))]
	}
	return "x-" + strconv.Itoa(random.Intn(1000))
}

func text(random *rand.Rand, length int) string {
	bytes := make([]byte, length)
	kind := random.Intn(3)
	for i := range bytes {
		switch kind {
		case 0:
			bytes[i] = byte(random.Intn(256))
		case 1:
			bytes[i] = byte(32 + random.Intn(95))
		default:
			bytes[i] = "0123456789abcdef-/ "[random.Intn(19)]
		}
	}
	return string(bytes)
}

func number(out io.Writer, value uint32) {
	var bytes [4]byte
	binary.BigEndian.PutUint32(bytes[:], value)
	out.Write(bytes[:])
}

func piece(out io.Writer, bytes []byte) {
	number(out, uint32(len(bytes)))
	out.Write(bytes)
}

func decode() {
	in := bufio.NewReaderSize(os.Stdin, 1<<16)
	decoder := hpack.NewDecoder(4096, nil)
	for count := 0; ; count++ {
		_, err := readNumber(in) // the size is in the block itself
		if err == io.EOF {
			fmt.Println(count)
			return
		}
		length, _ := readNumber(in)
		wanted := make([]hpack.HeaderField, length)
		for i := range wanted {
			wanted[i].Name = string(readPiece(in))
			wanted[i].Value = string(readPiece(in))
		}
		found, err := decoder.DecodeFull(readPiece(in))
		if err != nil {
			fail(fmt.Sprintf("block %d: %v", count, err))
		}
		if len(found) != len(wanted) {
			fail(fmt.Sprintf("block %d: %d fields, not %d", count, len(found), len(wanted)))
		}
		for i := range found {
			if found[i].Name != wanted[i].Name || found[i].Value != wanted[i].Value {
				fail(fmt.Sprintf("block %d: %v, not %v", count, found[i], wanted[i]))
			}
		}
	}
}

func readNumber(in io.Reader) (uint32, error) {
	var bytes [4]byte
	_, err := io.ReadFull(in, bytes[:])
	return binary.BigEndian.Uint32(bytes[:]), err
}

func readPiece(in io.Reader) []byte {
	length, _ := readNumber(in)
	bytes := make([]byte, length)
	if _, err := io.ReadFull(in, bytes); err != nil {
		fail(err.Error())
	}
	return bytes
}
