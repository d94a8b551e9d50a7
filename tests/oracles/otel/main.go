// The Collector's own tail_sampling processor, its conditions and its thresholds as a judge of ours. JSON lines on stdin,
// one JSON line each on stdout, in the same order. What each command reads and tells is said in __init__.py.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

const (
	childMark = "OTEL_ORACLE_CHILD"
	longest   = 1 << 30          // bytes of a line
	patience  = 20 * time.Second // for one case, on the wall's clock
)

var commands = map[string]func(io.Reader, io.Writer) error{
	"verdicts":   verdicts,
	"conditions": conditions,
	"thresholds": thresholds,
	"functions":  functions,
}

func main() {
	if os.Getenv(childMark) != "" {
		answerCases()
		return
	}
	command, known := commands[strings.Join(os.Args[1:], " ")]
	if !known {
		fmt.Fprintln(os.Stderr, "usage: verdicts | conditions | thresholds | functions")
		os.Exit(2)
	}
	if err := command(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func lines(in io.Reader) *bufio.Scanner {
	scanner := bufio.NewScanner(in)
	scanner.Buffer(make([]byte, 1<<20), longest)
	return scanner
}

// verdicts hands each line to a child process: a panic or an endless wait inside the processor costs one case only.
func verdicts(in io.Reader, out io.Writer) error {
	var current *judge
	defer func() {
		if current != nil {
			current.end()
		}
	}()
	for cases := lines(in); cases.Scan(); {
		if current == nil {
			var err error
			if current, err = newJudge(); err != nil {
				return err
			}
		}
		answer, alive := current.ask(cases.Bytes())
		if !alive {
			current = nil
		}
		if _, err := out.Write(append(answer, '\n')); err != nil {
			return err
		}
	}
	return nil
}

type judge struct {
	process *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Reader
	said    bytes.Buffer // stderr
}

func newJudge() (*judge, error) {
	made := &judge{process: exec.Command("/proc/self/exe")}
	made.process.Env = append(os.Environ(), childMark+"=1")
	made.process.Stderr = &made.said
	var err error
	if made.in, err = made.process.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := made.process.StdoutPipe()
	if err != nil {
		return nil, err
	}
	made.out = bufio.NewReaderSize(out, 1<<20)
	return made, made.process.Start()
}

func (j *judge) end() {
	_ = j.in.Close()
	_ = j.process.Wait()
}

// ask returns its answer, and whether it is still alive.
func (j *judge) ask(line []byte) ([]byte, bool) {
	var asked Case
	_ = json.Unmarshal(line, &asked)
	// After a crash nobody reads what is written; what it said is read below.
	go func(line []byte) { _, _ = j.in.Write(append(line, '\n')) }(bytes.Clone(line))
	type told struct {
		line []byte
		err  error
	}
	answered := make(chan told, 1)
	go func() { line, err := j.out.ReadBytes('\n'); answered <- told{line, err} }()
	failure := Answer{ID: asked.ID}
	select {
	case answer := <-answered:
		if answer.err == nil {
			return bytes.TrimRight(answer.line, "\n"), true
		}
		_ = j.process.Wait()
		failure.Crash = cause(j.said.String())
	case <-time.After(patience):
		_ = j.process.Process.Kill()
		_ = j.process.Wait()
		failure.Hang = true
	}
	line, _ = json.Marshal(failure)
	return line, false
}

func cause(said string) string {
	for _, line := range strings.Split(said, "\n") {
		if strings.HasPrefix(line, "panic:") || strings.HasPrefix(line, "fatal error:") {
			return line
		}
	}
	return "ended: " + said[:min(len(said), 400)]
}

// answerCases is the child. It is a test run, because synctest wants a *testing.T.
func answerCases() {
	out := os.Stdout
	os.Stdout, _ = os.OpenFile(os.DevNull, os.O_WRONLY, 0) // the test run's own words
	os.Args = os.Args[:1]
	answer := func(t *testing.T) {
		for cases := lines(os.Stdin); cases.Scan(); {
			told := answerCase(t, cases.Bytes())
			line, err := json.Marshal(told)
			if err != nil {
				line, _ = json.Marshal(Answer{ID: told.ID, Error: err.Error()})
			}
			_, _ = out.Write(append(line, '\n'))
		}
	}
	all := func(_, _ string) (bool, error) { return true, nil }
	testing.Main(all, []testing.InternalTest{{Name: "verdicts", F: answer}}, nil, nil)
}
