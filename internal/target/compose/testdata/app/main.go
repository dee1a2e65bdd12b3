// Command app is the program in the images of the tests: it tells what it was
// started with and keeps a value in /data.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
)

func main() {
	if len(os.Args) > 2 && os.Args[1] == "job" {
		fmt.Println("the job ran")
		code, _ := strconv.Atoi(os.Args[2])
		os.Exit(code)
	}
	if len(os.Args) > 1 && os.Args[1] == "check" {
		check()
	}
	if text := os.Getenv("CRASH"); text != "" {
		fmt.Fprintln(os.Stderr, "cannot start:", text)
		os.Exit(3)
	}
	http.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		if os.Getenv("BROKEN") != "" {
			http.Error(w, "broken", http.StatusServiceUnavailable)
		}
	})
	http.HandleFunc("/self", func(w http.ResponseWriter, _ *http.Request) {
		host, _ := os.Hostname()
		_ = json.NewEncoder(w).Encode(map[string]any{"env": os.Environ(), "args": os.Args, "host": host})
	})
	http.HandleFunc("/file", func(w http.ResponseWriter, r *http.Request) {
		http.ServeFile(w, r, r.FormValue("path"))
	})
	http.HandleFunc("GET /data", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, "/data/value") })
	http.HandleFunc("POST /data", func(w http.ResponseWriter, r *http.Request) {
		data, err := io.ReadAll(r.Body)
		if err == nil {
			err = os.WriteFile("/data/value", data, 0o600)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	http.HandleFunc("/peer", func(w http.ResponseWriter, r *http.Request) {
		resp, err := http.Get(r.FormValue("url"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer resp.Body.Close()
		_, _ = io.Copy(w, resp.Body)
	})
	port := os.Getenv("PORT")
	if port == "" {
		port = "8080"
	}
	// Without a handler the first process of a container ignores the signal.
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	go func() {
		<-stop
		os.Exit(0)
	}()
	log.Println("listening at", port)
	log.Fatal(http.ListenAndServe(":"+port, nil))
}

func check() {
	resp, err := http.Get("http://127.0.0.1:8080/healthz")
	if err != nil || resp.StatusCode != http.StatusOK {
		fmt.Println("not healthy", err)
		os.Exit(1)
	}
	os.Exit(0)
}
