package staging

import (
	"testing"

	"github.com/sombra-backup/sombra/provider/providertest"
)

func asOrdinary(t *testing.T) {
	t.Helper()
	providertest.Ordinary(t)
}
