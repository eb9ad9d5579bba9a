#include "actors/histogram.h"
#include "tests/unit/unit.h"

#include <pthread.h>

static struct histogram_view view;

static uint64_t recent(const struct histogram *h, uint32_t per_mille)
{
    histogram_recent(h, &view);
    return histogram_quantile(&view, per_mille);
}

TEST(buckets_follow_each_other_without_gaps_and_are_narrow)
{
    uint64_t low = 0;

    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        uint64_t high = histogram_bucket_high(i);

        EQ(histogram_bucket(low), i, "bucket %u", i);
        EQ(histogram_bucket(high), i, "bucket %u", i);
        CHECK((double)(high - low) <= 0.02 * (double)low, "bucket %u", i);
        low = high + 1;
    }
    EQ(low - 1, HISTOGRAM_MAX_US);
    EQ(histogram_bucket(UINT64_MAX), HISTOGRAM_BUCKETS - 1);
}

TEST(quantiles_are_the_smallest_bucket_that_holds_the_rank)
{
    struct histogram h;

    histogram_init(&h, 2);
    EQ(recent(&h, 500), 0);
    for (int i = 0; i < 10; i++)
        histogram_record(&h, (unsigned)i % 2, i < 8 ? 100000 : 200000);
    uint64_t half = recent(&h, 500);
    uint64_t most = recent(&h, 990);
    CHECK(half >= 100000 && half <= 102000, "%" PRIu64, half);
    CHECK(most >= 200000 && most <= 204000, "%" PRIu64, most);
    CHECK(recent(&h, 800) == half, "the eighth of ten");
    CHECK(recent(&h, 801) == most, "the ninth of ten");
    EQ(histogram_at_most(&view, 150000), 8);
    histogram_free(&h);
}

TEST(the_window_forgets_what_the_total_keeps)
{
    struct histogram h;

    histogram_init(&h, 1);
    histogram_record(&h, 0, 50);
    for (int i = 0; i < HISTOGRAM_SLOTS; i++) {
        histogram_roll(&h);
        EQ(recent(&h, 500), 50, "after %d slots", i + 1);
    }
    histogram_record(&h, 0, 70);
    EQ(recent(&h, 500), 50);
    EQ(view.count, 2);
    histogram_roll(&h);
    EQ(recent(&h, 500), 70);
    EQ(view.count, 1);
    histogram_total(&h, &view);
    EQ(view.count, 2);
    histogram_free(&h);
}

TEST(what_another_recorded_ages_from_now_on)
{
    struct histogram from;
    struct histogram to;
    struct histogram_view total;

    histogram_init(&from, 2);
    histogram_record(&from, 0, 50);
    for (int i = 0; i <= HISTOGRAM_SLOTS; i++)
        histogram_roll(&from);
    histogram_record(&from, 1, 70);
    histogram_total(&from, &total);
    histogram_recent(&from, &view);
    histogram_free(&from);
    EQ(total.count, 2);
    EQ(view.count, 1);
    histogram_init(&to, 3);
    histogram_record(&to, 0, 90);
    histogram_adopt(&to, 2, &total, &view);
    histogram_total(&to, &total);
    EQ(total.count, 3);
    EQ(recent(&to, 500), 70);
    EQ(view.count, 2);
    for (int i = 0; i <= HISTOGRAM_SLOTS; i++)
        histogram_roll(&to);
    EQ(recent(&to, 500), 0);
    EQ(view.count, 0);
    histogram_free(&to);
}

enum { WRITERS = 3, SAMPLES = 300000 };
struct writer_of {
    struct histogram *h;
    unsigned shard;
};

static void *write_samples(void *argument)
{
    struct writer_of *writer = argument;

    for (uint64_t i = 0; i < SAMPLES; i++)
        histogram_record(writer->h, writer->shard, i % 5000);
    return NULL;
}

/* As long as no slot has been dropped, the window is everything, wherever the rolls fell. */
TEST(no_sample_is_lost_or_counted_twice_while_others_write)
{
    struct histogram h;
    pthread_t threads[WRITERS];
    struct writer_of writers[WRITERS];
    uint64_t all = (uint64_t)WRITERS * SAMPLES;

    histogram_init(&h, WRITERS);
    for (unsigned i = 0; i < WRITERS; i++) {
        writers[i] = (struct writer_of){&h, i};
        EQ(pthread_create(&threads[i], NULL, write_samples, &writers[i]), 0);
    }
    for (uint64_t wanted = all / 8; wanted <= all / 2; wanted += all / 8) {
        do
            histogram_total(&h, &view);
        while (view.count < wanted);
        histogram_roll(&h);
    }
    for (unsigned i = 0; i < WRITERS; i++)
        pthread_join(threads[i], NULL);
    histogram_recent(&h, &view);
    EQ(view.count, all);
    for (uint32_t i = 0; i < HISTOGRAM_EXACT; i++)
        EQ(view.counts[i], all / 5000, "bucket %u", i);
    histogram_total(&h, &view);
    EQ(view.count, all);
    histogram_free(&h);
}
