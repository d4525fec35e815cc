package server

import (
	"fmt"
	"net"
	"os/exec"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
)

// Azure is a running server that speaks the interface of Azure Blob Storage.
type Azure struct {
	// Endpoint is the URL of its account.
	Endpoint string
}

// The account that every such server has, and its key, both in its manual.
const (
	AzureAccount = "devstoreaccount1"
	AzureKey     = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)

// StartAzure starts one that keeps what is stored in memory.
func StartAzure(t testing.TB) *Azure {
	t.Helper()
	script, err := installAzurite(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	addr := freeAddr(t)
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("node", script, "--silent", "--disableTelemetry", "--inMemoryPersistence", "--blobHost", host, "--blobPort", port)
	cmd.Dir = t.TempDir()
	start(t, addr, cmd)
	return &Azure{Endpoint: "http://" + addr + "/" + AzureAccount}
}

// Container makes an empty container.
func (s *Azure) Container(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("container-%d", buckets.Add(1))
	cred, err := container.NewSharedKeyCredential(AzureAccount, AzureKey)
	if err != nil {
		t.Fatal(err)
	}
	c, err := container.NewClientWithSharedKeyCredential(s.Endpoint+"/"+name, cred, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Create(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	return name
}

// Getenv is an environment that holds the account and its key.
func (s *Azure) Getenv(name string) string {
	return map[string]string{"AZURE_STORAGE_ACCOUNT": AzureAccount, "AZURE_STORAGE_KEY": AzureKey}[name]
}
