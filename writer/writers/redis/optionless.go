package redis

import "github.com/sombra-backup/sombra/writer"

var _ writer.Optionless = Kind{}

// Optionless implements [writer.Optionless].
func (Kind) Optionless() {}
