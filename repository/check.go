package repository

import (
	"context"
)

// Check looks for damage and calls f, if not nil, for each problem.
func (r *Repository) Check(ctx context.Context, o CheckOptions, f func(Problem)) (Report, error) {
	return Report{}, nil
}
