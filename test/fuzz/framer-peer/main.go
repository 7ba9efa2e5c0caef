// How Go's net/http reads bytes: as http.Server does for requests, as http.ReadResponse does for an answer.
//
// Standard input has records: an id, 'Q' for requests or 'A' for an answer, 1 if the connection broke off after the bytes
// (0: it ended), then the method that was asked with and the bytes, each with its length. Numbers are 32 bits, big-endian.
// Standard output has a line of JSON for each, in any order. Strings are Latin-1: a byte is the code point of its value.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"regexp"
	"sort"
	"strings"
	"sync"
	"time"
)

// Message is one request or answer as it was read.
type Message struct {
	Method   string      `json:"method"`
	Target   string      `json:"target"`
	Status   int         `json:"status"`
	Headers  [][2]string `json:"headers"`
	Body     string      `json:"body"`
	Trailers [][2]string `json:"trailers"`
	Complete bool        `json:"complete"`
}

// Reading is all that was read from one connection.
type Reading struct {
	ID       uint32     `json:"id"`
	Interim  []int      `json:"interim"`
	Messages []*Message `json:"messages"`
	// Why the bytes behind the last message are none; empty when there are none or too few.
	Refused string `json:"refused"`
	// Bytes behind the answer.
	Left int `json:"left"`
}

var broken = errors.New("the connection broke off")

// source gives the bytes, then the end.
type source struct {
	bytes.Reader
	cut bool
}

func (s *source) Read(into []byte) (int, error) {
	n, err := s.Reader.Read(into)
	if err == io.EOF && s.cut {
		err = broken
	}
	return n, err
}

// connection is one that http.Server reads from; what it answers is looked at for refusals only.
type connection struct {
	source
	reading *Reading
	lock    sync.Mutex
	once    sync.Once
	done    func()
}

var refusal = regexp.MustCompile(`^HTTP/1\.[01] ([45]\d\d [^\r\n]*)`)

func (c *connection) Write(bytes []byte) (int, error) {
	if found := refusal.FindSubmatch(bytes); found != nil {
		c.reading.Refused = string(found[1])
	}
	return len(bytes), nil
}

func (c *connection) Close() error {
	c.once.Do(c.done)
	return nil
}

// CloseWrite is the server's last word; it then waits half a second for what nobody reads.
func (c *connection) CloseWrite() error { return c.Close() }

func (c *connection) Read(into []byte) (int, error) {
	c.lock.Lock()
	defer c.lock.Unlock()
	return c.source.Read(into)
}

func (c *connection) LocalAddr() net.Addr                { return &net.TCPAddr{} }
func (c *connection) RemoteAddr() net.Addr               { return &net.TCPAddr{} }
func (c *connection) SetDeadline(t time.Time) error      { return nil }
func (c *connection) SetReadDeadline(t time.Time) error  { return nil }
func (c *connection) SetWriteDeadline(t time.Time) error { return nil }

type listener chan net.Conn

func (l listener) Accept() (net.Conn, error) { return <-l, nil }
func (l listener) Close() error              { return nil }
func (l listener) Addr() net.Addr            { return &net.TCPAddr{} }

type connectionKey struct{}

func withConnection(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connectionKey{}, c)
}

func main() {
	in := bufio.NewReaderSize(os.Stdin, 1<<16)
	accepted := make(listener)
	server := &http.Server{
		Handler:        http.HandlerFunc(handle),
		ErrorLog:       log.New(io.Discard, "", 0),
		MaxHeaderBytes: 1 << 20,
		ConnContext:    withConnection,
	}
	go server.Serve(accepted)
	lines := make(chan *Reading, 1024)
	ended := make(chan struct{})
	go write(lines, ended)
	var open sync.WaitGroup
	for {
		id, err := number(in)
		if err != nil {
			break
		}
		kind, cut := single(in), single(in) == 1
		method, content := piece(in), piece(in)
		reading := &Reading{ID: id, Interim: []int{}, Messages: []*Message{}}
		from := source{Reader: *bytes.NewReader(content), cut: cut}
		open.Add(1)
		if kind == 'A' {
			go func() {
				readAnswer(reading, &from, string(method))
				lines <- reading
				open.Done()
			}()
			continue
		}
		accepted <- &connection{source: from, reading: reading, done: func() {
			lines <- reading
			open.Done()
		}}
	}
	open.Wait()
	close(lines)
	<-ended
}

func handle(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	message := &Message{
		Method:   r.Method,
		Target:   latin1(r.RequestURI),
		Headers:  flat(r.Header),
		Body:     latin1(string(body)),
		Complete: err == nil,
	}
	message.Headers = append(message.Headers, [2]string{"host", latin1(r.Host)})
	message.Headers = append(message.Headers, codings(r.TransferEncoding)...)
	message.Trailers = flat(r.Trailer)
	c := r.Context().Value(connectionKey{}).(*connection)
	c.reading.Messages = append(c.reading.Messages, message)
}

func readAnswer(reading *Reading, from *source, method string) {
	in := bufio.NewReader(from)
	for {
		answer, err := http.ReadResponse(in, &http.Request{Method: method})
		if err != nil {
			reading.Refused = err.Error()
			return
		}
		if answer.StatusCode < 200 && answer.StatusCode != 101 {
			reading.Interim = append(reading.Interim, answer.StatusCode)
			continue
		}
		body, err := io.ReadAll(answer.Body)
		message := &Message{
			Status:   answer.StatusCode,
			Headers:  append(flat(answer.Header), codings(answer.TransferEncoding)...),
			Body:     latin1(string(body)),
			Complete: err == nil,
			Trailers: flat(answer.Trailer),
		}
		reading.Messages = append(reading.Messages, message)
		reading.Left = in.Buffered() + from.Len()
		return
	}
}

func codings(codings []string) [][2]string {
	var lines [][2]string
	for _, coding := range codings {
		lines = append(lines, [2]string{"transfer-encoding", coding})
	}
	return lines
}

// flat has the lines of one name in their order, and the names sorted. A trailer that was announced and did not come has
// no line.
func flat(header http.Header) [][2]string {
	lines := [][2]string{}
	for name, values := range header {
		for _, value := range values {
			lines = append(lines, [2]string{strings.ToLower(name), latin1(value)})
		}
	}
	sort.SliceStable(lines, func(a, b int) bool { return lines[a][0] < lines[b][0] })
	return lines
}

func latin1(text string) string {
	runes := make([]rune, len(text))
	for i := 0; i < len(text); i++ {
		runes[i] = rune(text[i])
	}
	return string(runes)
}

func write(lines <-chan *Reading, ended chan<- struct{}) {
	out := bufio.NewWriterSize(os.Stdout, 1<<16)
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	for reading := range lines {
		encoder.Encode(reading)
		if len(lines) == 0 {
			out.Flush()
		}
	}
	out.Flush()
	close(ended)
}

func number(in io.Reader) (uint32, error) {
	var bytes [4]byte
	_, err := io.ReadFull(in, bytes[:])
	return binary.BigEndian.Uint32(bytes[:]), err
}

func single(in *bufio.Reader) byte {
	value, _ := in.ReadByte()
	return value
}

func piece(in io.Reader) []byte {
	length, _ := number(in)
	bytes := make([]byte, length)
	if _, err := io.ReadFull(in, bytes); err != nil {
		log.Fatal(err)
	}
	return bytes
}
