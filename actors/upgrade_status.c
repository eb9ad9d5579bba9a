#include "actors/upgrade.h"

#include <stdio.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct upgrade_status now = {.phase = "serving", .result = "none"};

void upgrade_status_get(struct upgrade_status *out)
{
    pthread_mutex_lock(&lock);
    *out = now;
    pthread_mutex_unlock(&lock);
}

void upgrade_status_change(void (*change)(struct upgrade_status *status, void *context),
                           void *context)
{
    pthread_mutex_lock(&lock);
    change(&now, context);
    pthread_mutex_unlock(&lock);
}

void upgrade_phase(const char *phase)
{
    pthread_mutex_lock(&lock);
    snprintf(now.phase, sizeof now.phase, "%s", phase);
    pthread_mutex_unlock(&lock);
}

void upgrade_failed(const char *result, const char *error)
{
    pthread_mutex_lock(&lock);
    snprintf(now.phase, sizeof now.phase, "serving");
    snprintf(now.result, sizeof now.result, "%s", result);
    snprintf(now.error, sizeof now.error, "%s", error);
    now.successor = 0;
    pthread_mutex_unlock(&lock);
}
