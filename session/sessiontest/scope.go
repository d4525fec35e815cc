package sessiontest

import "github.com/sombra-backup/sombra/provider"

// fileSet is everything below a directory of a volume.
func fileSet(dir string) provider.FileSet {
	return provider.FileSet{Dir: dir, Pattern: "*", Recursive: true}
}

// claim is what a scripted writer claims, its files lying below dir.
func claim(w *Script, dir string) provider.Claim {
	return provider.Claim{
		Writer:  w.Instance().String(),
		Files:   []provider.FileSet{fileSet(dir)},
		Exclude: []provider.FileSet{{Dir: dir, Pattern: "*.tmp", Recursive: true}},
	}
}
