// Clients and a target for the benches of HTTP/2, with Go's own stack, which is kubectl's and every controller's:
//
//	go-peer paths   '{...}'  sends requests, each with a path that was not there before, until it is killed
//	go-peer once    '{...}'  opens a connection for each request, `count` of them, and ends
//	go-peer paced   '{...}'  sends requests at an even pace, in turns to each of several servers, and says how long they took
//	go-peer watches '{...}'  opens watches, says "open", and "event" each time that every one of them has had one
//	go-peer target  '{...}'  holds watches, and sends an event to all of them for each POST
package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"runtime/debug"
	"sort"
	"sync"
	"sync/atomic"
	"time"
)

type asked struct {
	Port          int    `json:"port"`
	Connections   int    `json:"connections"`
	Streams       int    `json:"streams"`
	Count         int    `json:"count"`
	Authorization string `json:"authorization"`
	// once: the forward door, with its user and password, and the host that is asked for there.
	Proxy string `json:"proxy"`
	Host  string `json:"host"`
	// paced: HTTP/1.1 unless http2. In each turn each server gets `count` requests.
	PerSecond int       `json:"perSecond"`
	Turns     int       `json:"turns"`
	HTTP2     bool      `json:"http2"`
	Path      string    `json:"path"`
	Servers   []asked   `json:"servers"`
	Shares    []float64 `json:"shares"`
	// target
	Certificate string `json:"certificate"`
	Key         string `json:"key"`
}

func main() {
	var a asked
	check(json.Unmarshal([]byte(os.Args[2]), &a))
	switch os.Args[1] {
	case "paths":
		paths(a)
	case "once":
		once(a)
	case "paced":
		paced(a)
	case "watches":
		watches(a)
	case "target":
		target(a)
	default:
		log.Fatal("unknown: ", os.Args[1])
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

var made atomic.Int64

// One connection, made by the first request, each from one of several addresses. Nothing is measured of it, so it trusts
// any certificate.
func connection(a asked) *http.Transport {
	from := &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+made.Add(1)%8))}
	t := &http.Transport{
		DialContext:        (&net.Dialer{LocalAddr: from}).DialContext,
		ForceAttemptHTTP2:  true,
		MaxConnsPerHost:    1,
		DisableCompression: true,
		TLSClientConfig:    &tls.Config{InsecureSkipVerify: true},
	}
	if a.Proxy != "" {
		u, err := url.Parse(a.Proxy)
		check(err)
		t.Proxy = http.ProxyURL(u)
	}
	return t
}

func get(t *http.Transport, a asked, path string) *http.Response {
	host := a.Host
	if host == "" {
		host = fmt.Sprintf("localhost:%d", a.Port)
	}
	request, err := http.NewRequest("GET", "https://"+host+path, nil)
	check(err)
	request.Header.Set("Authorization", a.Authorization)
	answer, err := t.RoundTrip(request)
	check(err)
	if answer.StatusCode != 200 || (answer.ProtoMajor == 2) != t.ForceAttemptHTTP2 {
		text, _ := io.ReadAll(answer.Body)
		log.Fatalf("%s %s: %s", answer.Proto, answer.Status, text)
	}
	return answer
}

func drain(answer *http.Response) {
	_, err := io.Copy(io.Discard, answer.Body)
	check(err)
	answer.Body.Close()
}

func paths(a asked) {
	var number atomic.Int64
	each(a, func(t *http.Transport) {
		for {
			drain(get(t, a, fmt.Sprintf("/api/v1/namespaces/work/configmaps/name-%d", number.Add(1))))
		}
	})
}

// Runs `work` on each stream of each connection, and ends when all have.
func each(a asked, work func(t *http.Transport)) {
	var all sync.WaitGroup
	for range a.Connections {
		t := connection(a)
		drain(get(t, a, "/api/v1/namespaces/work/configmaps/first"))
		for range a.Streams {
			all.Go(func() { work(t) })
		}
	}
	all.Wait()
}

func once(a asked) {
	var left atomic.Int64
	left.Store(int64(a.Count))
	var all sync.WaitGroup
	for range a.Connections {
		all.Go(func() {
			for left.Add(-1) >= 0 {
				t := connection(a)
				drain(get(t, a, "/api/v1/namespaces/work/configmaps/one"))
				t.CloseIdleConnections()
			}
		})
	}
	all.Wait()
}

// Each request is sent when its time has come, whether earlier ones have their answers or not. Prints, for each server, the
// milliseconds that those shares of its requests took at most. The first turn is not counted.
// Writes the quantiles of each turn of each server, in milliseconds.
func paced(a asked) {
	debug.SetGCPercent(1000)
	quantiles := make([][][]float64, len(a.Servers))
	transports := make([]*http.Transport, len(a.Servers))
	for i, server := range a.Servers {
		t := connection(server)
		t.ForceAttemptHTTP2 = a.HTTP2
		if !a.HTTP2 {
			t.MaxConnsPerHost, t.MaxIdleConnsPerHost = 32, 32
		}
		transports[i] = t
	}
	for turn := range a.Turns + 1 {
		for i, server := range a.Servers {
			took := make([]float64, a.Count)
			var all sync.WaitGroup
			next := time.Now()
			for n := range a.Count {
				time.Sleep(time.Until(next))
				next = next.Add(time.Second / time.Duration(a.PerSecond))
				all.Go(func() {
					began := time.Now()
					drain(get(transports[i], server, a.Path))
					took[n] = time.Since(began).Seconds() * 1000
				})
			}
			all.Wait()
			// The first one makes the connections.
			if turn == 0 {
				continue
			}
			sort.Float64s(took)
			of := make([]float64, len(a.Shares))
			for at, share := range a.Shares {
				of[at] = took[int(share*float64(len(took)))]
			}
			quantiles[i] = append(quantiles[i], of)
		}
	}
	check(json.NewEncoder(os.Stdout).Encode(quantiles))
}

func watches(a asked) {
	wanted := int64(a.Connections * a.Streams)
	var open, events atomic.Int64
	each(a, func(t *http.Transport) {
		lines := bufio.NewReaderSize(get(t, a, "/api/v1/pods?watch=1").Body, 1024)
		_, err := lines.ReadSlice('\n')
		check(err)
		if open.Add(1) == wanted {
			fmt.Println("open")
		}
		for {
			_, err := lines.ReadSlice('\n')
			check(err)
			if events.Add(1)%wanted == 0 {
				fmt.Println("event")
			}
		}
	})
}

func target(a asked) {
	var lock sync.Mutex
	next := make(chan struct{})
	event := append(bytes.Repeat([]byte("e"), 500), '\n')
	handler := func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "POST" {
			lock.Lock()
			close(next)
			next = make(chan struct{})
			lock.Unlock()
			return
		}
		if r.URL.Query().Get("watch") == "" {
			return
		}
		w.Header().Set("Content-Type", "application/json")
		lock.Lock()
		mine := next
		lock.Unlock()
		w.Write([]byte("{}\n"))
		w.(http.Flusher).Flush()
		for {
			select {
			case <-r.Context().Done():
				return
			case <-mine:
			}
			lock.Lock()
			mine = next
			lock.Unlock()
			w.Write(event)
			w.(http.Flusher).Flush()
		}
	}
	pair, err := tls.X509KeyPair([]byte(a.Certificate), []byte(a.Key))
	check(err)
	listener, err := tls.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", a.Port), &tls.Config{
		Certificates: []tls.Certificate{pair},
		NextProtos:   []string{"h2", "http/1.1"},
	})
	check(err)
	fmt.Println("ready")
	check(http.Serve(listener, http.HandlerFunc(handler)))
}
