// Package protect stands in for suah.dev/protect, which does something on OpenBSD alone.
package protect

func Pledge(string) error         { return nil }
func Unveil(string, string) error { return nil }
func UnveilBlock() error          { return nil }
func ReducePrivs(string) error    { return nil }
func LandlockSupported() error    { return nil }
