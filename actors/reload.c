#define LOG_MODULE "pg_doorman::config"
#include "actors/daemon.h"

#include "actors/pool.h"
#include "actors/session.h"
#include "actors/upgrade.h"
#include "runtime/log.h"
#include "runtime/notify.h"
#include "runtime/offload.h"

#include <stdio.h>

struct loading {
    struct config *config;
    struct failure why;
    int result;
};

/* An upgrade tells the manager of its own end, which comes after this one's. */
static bool manager_listens(void)
{
    return notify_wanted() && !upgrade_running();
}

/* On a helper thread, where it may wait. */
static void load(void *argument)
{
    struct loading *loading = argument;
    struct failure why;

    if (manager_listens() && notify_reloading("reloading the configuration", &why) != 0)
        log_warn("sd_notify RELOADING failed: %s", why.text);
    loading->result = config_load(&loading->config, app.config_path, &loading->why);
}

static void tell_end(void *argument)
{
    const struct loading *loading = argument;
    char text[640] = "serving";
    struct failure why;

    if (loading->result != 0)
        snprintf(text, sizeof text, "reload failed: %s", loading->why.text);
    if (notify_serving(text, &why) != 0)
        log_warn("sd_notify READY failed: %s", why.text);
}

/* Takes over the reference. */
static bool put_in_force(struct worker *w, struct config *config)
{
    struct config *before = app_config();
    bool changed = !config_equal(before, config);

    if (changed) {
        app_publish(config_ref(config));
        pools_configure(w, config);
        sessions_follow_limits(w, before, config);
        log_info("config reloaded");
    } else {
        log_info("config unchanged");
    }
    warnings_log(config);
    summary_log(config);
    config_unref(before);
    config_unref(config);
    return changed;
}

static void reject(const char *reason)
{
    struct config *config = app_config();

    log_error("Config reload error: %s", reason);
    log_error("Config reload rejected: %s stays in force as it was", app.config_path);
    summary_log(config);
    config_unref(config);
}

int reload(struct worker *w, bool *changed, struct failure *why)
{
    struct loading loading = {.result = -1};

    log_info("Reloading config");
    *changed = false;
    if (offload_run(w, load, &loading) != 0)
        fail(&loading.why, "no helper thread can read it");
    if (loading.result == 0) {
        *changed = put_in_force(w, loading.config);
    } else {
        reject(loading.why.text);
        *why = loading.why;
    }
    if (manager_listens() && offload_run(w, tell_end, &loading) != 0)
        log_warn("sd_notify READY failed: no helper thread can send it");
    return loading.result;
}
