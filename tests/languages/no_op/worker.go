package main

import "no-op-worker/verger"

func init() { verger.Worker(map[string]any{"name": "no-op", "version": "0.1.0"}, perform) }

func main() {}

func perform(*verger.Scope, verger.Args) verger.Outcome { return verger.Done() }
