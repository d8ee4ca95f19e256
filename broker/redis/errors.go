package redis

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	goredis "github.com/redis/go-redis/v9"

	"sluice/broker"
)

var (
	errSilent   = errors.New("connection delivers nothing: a message to itself did not come back")
	errReply    = errors.New("reply not understood")
	errNoLink   = errors.New("no Pub/Sub connection")
	errDialOnce = errors.New("connection lost")
)

// Replies by which Redis refuses a command for now. Of the first group, a moment later it may not.
var (
	passing = []string{"LOADING ", "READONLY ", "MASTERDOWN ", "CLUSTERDOWN ", "TRYAGAIN ", "BUSY "}
	lasting = []string{"OOM ", "NOREPLICAS ", "MISCONF ", "NOAUTH ", "WRONGPASS ", "NOPERM ", "ERR max number of clients"}
)

// isReply reports whether err is what Redis answered: the command arrived and was refused.
func isReply(err error) bool {
	var r goredis.Error
	return errors.As(err, &r)
}

func hasPrefix(err error, prefixes []string) bool {
	text := err.Error()
	for _, p := range prefixes {
		if strings.HasPrefix(text, p) {
			return true
		}
	}
	return false
}

// unavailable makes err wrap broker.ErrUnavailable unless it is a refusal that no retry can mend.
func unavailable(err error) error {
	if err == nil || errors.Is(err, broker.ErrUnavailable) {
		return err
	}
	if foreign(err) {
		return err
	}
	return fmt.Errorf("%w: %w", broker.ErrUnavailable, err)
}

// foreign reports whether a function failed for what it has found in its channel's keys: another type of value, or
// another text than Sluice's.
func foreign(err error) bool {
	return isReply(err) && !hasPrefix(err, passing) && !hasPrefix(err, lasting) && !missing(err)
}

// unsent reports whether the command that failed with err was certainly not executed and may be soon.
func unsent(err error) bool {
	if isReply(err) {
		return hasPrefix(err, passing) || missing(err)
	}
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// retryable reports whether to try a command with an ID again.
func retryable(err error) bool {
	if isReply(err) {
		return unsent(err)
	}
	return !errors.Is(err, context.Canceled) && !errors.Is(err, broker.ErrClosed) && !errors.Is(err, errReply)
}

// missing reports whether our functions have to be loaded, or, where they can't be, our scripts.
func missing(err error) bool {
	return err != nil && isReply(err) &&
		(strings.Contains(err.Error(), "Function not found") || strings.HasPrefix(err.Error(), "NOSCRIPT ") || unknownCommand(err))
}

func unknownCommand(err error) bool {
	return strings.Contains(strings.ToLower(err.Error()), "unknown command")
}
